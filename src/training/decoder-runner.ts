// Runs a decoder layer by layer for training: forward keeping what backward needs, loss, backward into a flat gradient.
// It owns the sessions; weights and parameters are its caller's. A pass is a handful of rows (data/batches).
import { encodeOnnx } from "../graph/onnx.ts";
import type { Graph } from "../graph/graph.ts";
import type { PassLayout, SupervisedPass } from "../data/batches.ts";
import { causalMask } from "../model/attention-mask.ts";
import { embed } from "../model/decoder-weights.ts";
import type { DecoderWeights } from "../model/decoder-weights.ts";
import type { ModelConfig } from "../model/model-config.ts";
import { createRandom } from "../random.ts";
import { createSession } from "../runtime/session.ts";
import type { Feeds, Fetches, Session } from "../runtime/session.ts";
import { float32, int32, int64 } from "../runtime/tensor.ts";
import type { HostTensor } from "../runtime/tensor.ts";
import { buildHeadGraphs, HEAD_ROWS } from "./head-graphs.ts";
import { buildLayerGraphs } from "./layer-graphs.ts";
import type { LoraParameters, LoraPlan } from "./lora-parameters.ts";

/**
 * A pass of more tokens keeps only the layers' inputs and computes the rest again in the backward pass: a third more
 * work, a tenth of the memory. 1,024 tokens of a 135M model keep about 0.7 GB.
 */
const RECOMPUTE_ABOVE_TOKENS = 1024;

export interface PassResult {
  /** Sum of -log p over the pass's supervised tokens, in nats. */
  lossSum: number;
  /** How many of them were the most likely token. */
  correct: number;
  supervised: number;
}

/** Seeds of the dropout masks of one pass; equal numbers give equal masks. */
export type DropoutStream = readonly number[];

export interface DecoderRunnerOptions {
  config: ModelConfig;
  weights: DecoderWeights;
  parameters: LoraParameters;
  lora: LoraPlan;
  threads: number;
}

export class DecoderRunner {
  readonly #options: DecoderRunnerOptions;
  readonly #sessions = new Map<string, Promise<Session>>();
  readonly #layerGraphs;
  readonly #headGraphs;
  #causalMask: HostTensor<"float32"> | null = null;

  constructor(options: DecoderRunnerOptions) {
    this.#options = options;
    this.#layerGraphs = buildLayerGraphs(options.config, options.lora);
    this.#headGraphs = buildHeadGraphs(options.config);
  }

  /** Loss and accuracy of a pass, without gradients and without dropout. */
  async evaluate(pass: SupervisedPass): Promise<PassResult> {
    const session = await this.#session("evaluate", this.#layerGraphs.evaluate);
    const shared = this.#sharedFeeds(pass.layout);
    let x = embed(this.#options.weights, pass.layout.tokens);
    for (const layer of this.#layers()) {
      const dropout = this.#dropout(pass.layout, layer, null);
      x = (await session.run({ ...shared, ...this.#layerFeeds(layer), ...dropout, x }))["output"] as typeof x;
    }
    return this.#head(pass, x, null);
  }

  /**
   * Loss of a pass, and `rowWeight` times the gradient of its sum added to `gradients` (flat, as LoraParameters.data).
   * Throws the signal's reason between two layers once it is aborted; `gradients` is then half written.
   */
  async train(
    pass: SupervisedPass,
    rowWeight: number,
    gradients: Float32Array,
    dropoutStream: DropoutStream,
    signal?: AbortSignal,
  ): Promise<PassResult> {
    const { layout } = pass;
    const keep = layout.tokens.length <= RECOMPUTE_ABOVE_TOKENS;
    const forward = keep
      ? await this.#session("forward", this.#layerGraphs.forward)
      : await this.#session("evaluate", this.#layerGraphs.evaluate);
    const backward = keep
      ? await this.#session("backward", this.#layerGraphs.backward)
      : await this.#session("recomputingBackward", this.#layerGraphs.recomputingBackward);
    const shared = this.#sharedFeeds(layout);

    const traces: (Fetches & { x: HostTensor<"float32"> })[] = [];
    let x = embed(this.#options.weights, layout.tokens);
    for (const layer of this.#layers()) {
      signal?.throwIfAborted();
      const dropout = this.#dropout(layout, layer, dropoutStream);
      const { output, ...saved } = await forward.run({
        ...shared,
        ...this.#layerFeeds(layer),
        ...dropout,
        x,
      });
      traces.push({ ...saved, x });
      x = output as typeof x;
    }

    const dOutput = new Float32Array(x.data.length);
    const result = await this.#head(pass, x, { rowWeight, dOutput });

    let d = float32(dOutput, x.shape);
    for (const layer of this.#layers().reverse()) {
      signal?.throwIfAborted();
      const trace = traces.pop() as Fetches;
      const dropout = this.#dropout(layout, layer, dropoutStream);
      const results = await backward.run({
        ...shared,
        ...this.#layerFeeds(layer),
        ...trace,
        ...dropout,
        d_output: d,
      });
      this.#accumulate(gradients, layer, results);
      d = results["d_x"] as typeof d;
    }
    return result;
  }

  async release(): Promise<void> {
    for (const session of this.#sessions.values()) await (await session).release();
    this.#sessions.clear();
  }

  #layers(): number[] {
    return Array.from({ length: this.#options.config.layerCount }, (_, layer) => layer);
  }

  /** Sessions are made at their first use: a run that never meets a long row never compiles the graph for it. */
  #session(name: string, graph: Graph): Promise<Session> {
    let session = this.#sessions.get(name);
    if (session === undefined) {
      session = createSession(encodeOnnx(graph), { threads: this.#options.threads });
      this.#sessions.set(name, session);
    }
    return session;
  }

  #layerFeeds(layer: number): Feeds {
    return { ...this.#options.weights.layers[layer], ...this.#options.parameters.layers[layer] };
  }

  #sharedFeeds(layout: PassLayout): Feeds {
    const { rowCount: B, rowLength: T, tokens } = layout;
    const { cos, sin } = this.#options.weights;
    return {
      cos,
      sin,
      positions: int64(layout.positions, [1, tokens.length]),
      block_index: int32(layout.blockIndex, [B, T]),
      flat_index: int32(layout.flatIndex, [tokens.length]),
      block_mask: float32(layout.blockMask, [B, T, 1]),
      causal_mask: this.#causalMaskOf(T),
    };
  }

  #causalMaskOf(T: number): HostTensor<"float32"> {
    if (this.#causalMask?.shape[0] !== T) this.#causalMask = causalMask(T);
    return this.#causalMask;
  }

  /** Masks of one layer: ones without a stream, else zeros with probability p and 1 / (1 - p). */
  #dropout(layout: PassLayout, layer: number, stream: DropoutStream | null): Feeds {
    const { dropout: p, targetModules } = this.#options.lora;
    if (p === 0) return {};
    const feeds: Record<string, HostTensor> = {};
    for (const [i, target] of targetModules.entries()) {
      const width = this.#options.parameters.layers[layer]?.[`${target}.lora_A`]?.shape[1] as number;
      const mask = new Float32Array(layout.tokens.length * width).fill(1);
      if (stream !== null) {
        const random = createRandom(...stream, layer, i);
        for (let j = 0; j < mask.length; j++) mask[j] = random.next() < p ? 0 : 1 / (1 - p);
      }
      feeds[`${target}.dropout`] = float32(mask, [layout.tokens.length, width]);
    }
    return feeds;
  }

  async #head(
    { lossRows, targets }: SupervisedPass,
    hidden: HostTensor<"float32">,
    training: { rowWeight: number; dOutput: Float32Array } | null,
  ): Promise<PassResult> {
    const { head, finalNorm: norm } = this.#options.weights;
    const session =
      training === null
        ? await this.#session("head", this.#headGraphs.evaluate)
        : await this.#session("trainingHead", this.#headGraphs.train);
    const width = hidden.shape[1] as number;
    const result: PassResult = { lossSum: 0, correct: 0, supervised: lossRows.length };
    for (let start = 0; start < lossRows.length; start += HEAD_ROWS) {
      const chunk = lossRows.subarray(start, start + HEAD_ROWS);
      const count = chunk.length;
      const rows = new Float32Array(count * width);
      for (const [i, row] of chunk.entries()) {
        rows.set(hidden.data.subarray(row * width, (row + 1) * width), i * width);
      }
      const results = await session.run({
        norm,
        head,
        rows: float32(rows, [count, width]),
        targets: int64(BigInt64Array.from(targets.subarray(start, start + count), BigInt), [count, 1]),
        row_weight: float32(new Float32Array(count).fill(training?.rowWeight ?? 0), [count, 1]),
      });
      const logProbability = results["log_probability"]?.data as Float32Array;
      const best = results["best_log_probability"]?.data as Float32Array;
      for (let i = 0; i < count; i++) {
        result.lossSum -= logProbability[i] as number;
        if ((logProbability[i] as number) >= (best[i] as number)) result.correct += 1;
      }
      if (training === null) continue;
      const dRows = results["d_rows"]?.data as Float32Array;
      for (const [i, row] of chunk.entries()) {
        training.dOutput.set(dRows.subarray(i * width, (i + 1) * width), row * width);
      }
    }
    return result;
  }

  #accumulate(gradients: Float32Array, layer: number, results: Fetches): void {
    for (const { layer: of, target, matrix, offset } of this.#options.parameters.slots) {
      if (of !== layer) continue;
      const gradient = results[`d_${target}.${matrix}`]?.data as Float32Array;
      for (let i = 0; i < gradient.length; i++) {
        gradients[offset + i] = (gradients[offset + i] as number) + (gradient[i] as number);
      }
    }
  }
}
