// How fast this machine multiplies f32 matrices in ONNX Runtime: what a training step can be held against. Products of the frozen
// linears' shapes forward and backward at a pass's tokens, weights fed as in training, and one large square product.
import { Graph } from "../src/graph/graph.ts";
import { encodeOnnx } from "../src/graph/onnx.ts";
import { LORA_TARGET_PATH, LORA_TARGETS } from "../src/model/lora-targets.ts";
import type { ModelConfig } from "../src/model/model-config.ts";
import { layerTensorShapes } from "../src/model/tensor-shapes.ts";
import { createRandom } from "../src/random.ts";
import { createSession } from "../src/runtime/session.ts";
import { float32 } from "../src/runtime/tensor.ts";

/** Rows of the products: tokens of a full pass. */
const PASS_ROWS = 400;
const SQUARE = 2048;
/** Products of one kind in a row; the best of several such rounds counts, for other work only ever takes speed away. */
const SECONDS_A_SHAPE = 1;
const ROUNDS = 3;

export interface GemmRates {
  /** GFLOP/s of the model's shapes, each weighted by its operations. */
  model_shapes: number;
  square: number;
  /** The better of the two. */
  best: number;
}

export async function measureGemm(config: ModelConfig, threads: number): Promise<GemmRates> {
  const shapes = layerTensorShapes(config);
  let operations = 0;
  let seconds = 0;
  for (const target of LORA_TARGETS) {
    const [rows, columns] = shapes.get(`${LORA_TARGET_PATH[target]}.weight`) as [number, number];
    for (const transB of [true, false]) {
      const [K, N] = transB ? [columns, rows] : [rows, columns];
      operations += 2 * PASS_ROWS * K * N;
      seconds += await secondsOf({ M: PASS_ROWS, K, N, transB }, threads);
    }
  }
  const squareSeconds = await secondsOf({ M: SQUARE, K: SQUARE, N: SQUARE, transB: false }, threads);
  const rates = {
    model_shapes: (operations / seconds) * 1e-9,
    square: ((2 * SQUARE ** 3) / squareSeconds) * 1e-9,
  };
  return { ...rates, best: Math.max(rates.model_shapes, rates.square) };
}

interface Product {
  M: number;
  K: number;
  N: number;
  /** The right operand is given transposed. */
  transB: boolean;
}

/** Seconds of one product. Several stand in one graph that gives back a single column, so that nothing large is copied out. */
async function secondsOf({ M, K, N, transB }: Product, threads: number): Promise<number> {
  const count = Math.max(2, Math.round(1e10 / (2 * M * K * N)));
  const g = new Graph();
  const right = g.input("right", "float32", transB ? [N, K] : [K, N]);
  const lefts = Array.from({ length: count }, (_, i) => g.input(`left_${i}`, "float32", [M, K]));
  const column = g.input("column", "float32", [N, 1]);
  for (const [i, left] of lefts.entries()) {
    g.output(`y_${i}`, g.gemm(g.gemm(left, right, { transB }), column));
  }
  const session = await createSession(encodeOnnx(g), { threads, memory: "system" });
  const random = createRandom(1);
  const matrix = (rows: number, columns: number) =>
    float32(
      Float32Array.from({ length: rows * columns }, () => random.next() - 0.5),
      [rows, columns],
    );
  const left = matrix(M, K);
  const feeds = {
    ...Object.fromEntries(lefts.map(({ name }) => [name, left])),
    right: transB ? matrix(N, K) : matrix(K, N),
    column: matrix(N, 1),
  };
  await session.run(feeds);
  let best = Infinity;
  for (let round = 0; round < ROUNDS; round++) {
    const start = performance.now();
    let runs = 0;
    do {
      await session.run(feeds);
      runs += 1;
    } while (performance.now() - start < (1000 * SECONDS_A_SHAPE) / ROUNDS);
    best = Math.min(best, (performance.now() - start) / 1000 / (runs * count));
  }
  await session.release();
  return best;
}
