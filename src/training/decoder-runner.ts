// Runs a decoder for training: forward, loss, and backward into a flat gradient. Short passes run as one graph, long ones
// layer by layer, which takes less memory. It owns the sessions; weights and parameters are its caller's. A pass is a
// handful of rows (data/batches).
import { encodeOnnx } from "../graph/onnx.ts";
import type { Graph } from "../graph/graph.ts";
import { PASS_TOKENS } from "../data/batches.ts";
import type { PassLayout, SupervisedPass } from "../data/batches.ts";
import type { AttentionForm } from "../model/attention.ts";
import { layerFeed } from "../model/decoder.ts";
import { embed } from "../model/decoder-weights.ts";
import type { DecoderWeights } from "../model/decoder-weights.ts";
import { isSliding } from "../model/model-config.ts";
import type { ModelConfig } from "../model/model-config.ts";
import { createRandom } from "../random.ts";
import { createSession } from "../runtime/session.ts";
import type { Feeds, Fetches, Session } from "../runtime/session.ts";
import { float32, int32, int64 } from "../runtime/tensor.ts";
import type { HostTensor } from "../runtime/tensor.ts";
import { buildHeadGraphs, HEAD_ROWS } from "./head-graphs.ts";
import { buildLayerGraphs } from "./layer-graphs.ts";
import { attentionForm, LayoutFeeds } from "./layout-feeds.ts";
import { buildStepGraph } from "./step-graph.ts";
import type { LoraParameters, LoraPlan } from "./lora-parameters.ts";
import type { RowWeights } from "./row-weights.ts";

/**
 * A pass of more tokens runs layer by layer and computes each layer twice. One graph for all is a third faster and keeps what
 * the backward pass needs of every layer, about 1.5 MB a token of a 135M model.
 */
export const WHOLE_STEP_TOKENS = 1100;

/** A pass of long rows, or of more than `PASS_TOKENS` loss rows, computes its logits in so many parts. */
const HEAD_PARTS = 4;

export interface PassResult {
  /** Sum of -log p over the pass's supervised tokens, in nats. */
  lossSum: number;
  /** How many of them were the most likely token. */
  correct: number;
  supervised: number;
  /** [M]: ln p of the target at each of the pass's loss rows. */
  logProbabilities: Float32Array;
}

/** Seeds of the dropout masks of one pass; equal numbers give equal masks. */
export type DropoutStream = readonly number[];

export interface DecoderRunnerOptions {
  config: ModelConfig;
  weights: DecoderWeights;
  parameters: LoraParameters;
  lora: LoraPlan;
  threads: number;
  /** Longest pass that runs as one graph; 0: none, for the least memory. */
  wholeStepTokens?: number;
}

export class DecoderRunner {
  readonly #options: DecoderRunnerOptions;
  readonly #sessions = new Map<string, Promise<Session>>();
  readonly #headGraphs;
  readonly #layoutFeeds: LayoutFeeds;

  constructor(options: DecoderRunnerOptions) {
    this.#options = options;
    this.#headGraphs = buildHeadGraphs(options.config);
    this.#layoutFeeds = new LayoutFeeds(options.config, options.weights);
  }

  /** Loss and accuracy of a pass, without gradients and without dropout. */
  async evaluate(pass: SupervisedPass): Promise<PassResult> {
    const session = await this.#layerSession("forward", pass.layout);
    const shared = this.#layoutFeeds.of(pass.layout);
    let x = embed(this.#options.weights, pass.layout.tokens);
    for (const layer of this.#layers()) {
      const dropout = this.#dropout(pass.layout, layer, null);
      const ofLayer = { ...this.#ofKind(shared, layer), ...this.#layerFeeds(layer) };
      x = outputOf(await session.run({ ...ofLayer, ...dropout, x }));
    }
    return this.#head(pass, x);
  }

  /**
   * What a pass's tokens are like, and the gradient of the loss that these weights belong to, added to `gradients` (flat, as
   * LoraParameters.data).
   * Throws the signal's reason between two runs once it is aborted; `gradients` is then half written.
   */
  async train(
    pass: SupervisedPass,
    weights: RowWeights,
    gradients: Float32Array,
    dropoutStream: DropoutStream,
    signal?: AbortSignal,
  ): Promise<PassResult> {
    const { layout } = pass;
    if (layout.tokens.length <= (this.#options.wholeStepTokens ?? WHOLE_STEP_TOKENS)) {
      signal?.throwIfAborted();
      return this.#trainWhole(pass, weights, gradients, dropoutStream);
    }
    const forward = await this.#layerSession("forward", layout);
    const backward = await this.#layerSession("backward", layout);
    const shared = this.#layoutFeeds.of(layout);

    const inputs: HostTensor<"float32">[] = [];
    let x = embed(this.#options.weights, layout.tokens);
    for (const layer of this.#layers()) {
      signal?.throwIfAborted();
      inputs.push(x);
      const dropout = this.#dropout(layout, layer, dropoutStream);
      const ofLayer = { ...this.#ofKind(shared, layer), ...this.#layerFeeds(layer) };
      x = outputOf(await forward.run({ ...ofLayer, ...dropout, x }));
    }

    const dOutput = new Float32Array(x.data.length);
    const result = await this.#trainingHead(pass, x, weights, dOutput);

    let d = float32(dOutput, x.shape);
    for (const layer of this.#layers().reverse()) {
      signal?.throwIfAborted();
      const x = inputs.pop() as HostTensor<"float32">;
      const dropout = this.#dropout(layout, layer, dropoutStream);
      const results = await backward.run({
        ...this.#ofKind(shared, layer),
        ...this.#layerFeeds(layer),
        ...dropout,
        x,
        d_output: d,
      });
      for (const { layer: of, target, matrix, offset } of this.#options.parameters.slots) {
        if (of === layer) addTo(gradients, offset, results[`d_${target}.${matrix}`]);
      }
      d = results["d_x"] as typeof d;
    }
    return result;
  }

  /** `train` as one run. */
  async #trainWhole(
    { layout, lossRows, targets }: SupervisedPass,
    rowWeights: RowWeights,
    gradients: Float32Array,
    dropoutStream: DropoutStream,
  ): Promise<PassResult> {
    const { weights, parameters, config, lora } = this.#options;
    const form = attentionForm(layout);
    const headParts = form.queryBlocks > 1 || lossRows.length > PASS_TOKENS ? HEAD_PARTS : 1;
    const session = await this.#session(`step ${nameOf(form)} ${headParts} ${rowWeights.form.name}`, () =>
      buildStepGraph(config, lora, { form, weights: rowWeights.form, headParts }),
    );
    const perLayer: Record<string, HostTensor> = {};
    for (const layer of this.#layers()) {
      const feeds = { ...this.#layerFeeds(layer), ...this.#dropout(layout, layer, dropoutStream) };
      for (const [name, tensor] of Object.entries(feeds)) perLayer[layerFeed(layer, name)] = tensor;
    }
    const rowPlaces = new Int32Array(layout.tokens.length);
    const rowMask = new Float32Array(layout.tokens.length);
    for (const [i, row] of lossRows.entries()) {
      rowPlaces[row] = i;
      rowMask[row] = 1;
    }
    // The graph cuts the loss rows into as many parts: what is missing is filled up with row 0 at weight 0.
    const places = padded(lossRows, headParts);
    const results = await session.run({
      ...this.#layoutFeeds.of(layout),
      ...perLayer,
      ...this.#targetFeeds(padded(targets, headParts)),
      ...rowWeights.feeds(places.length),
      x: embed(weights, layout.tokens),
      loss_rows: int32(places, [places.length]),
      row_places: int32(rowPlaces, [rowPlaces.length]),
      row_mask: float32(rowMask, [rowMask.length, 1]),
    });
    for (const { layer, target, matrix, offset } of parameters.slots) {
      addTo(gradients, offset, results[`d_${layerFeed(layer, `${target}.${matrix}`)}`]);
    }
    const result = noResult(lossRows.length);
    addResult(result, results, 0, lossRows.length);
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
  #session(name: string, graph: () => Graph): Promise<Session> {
    let session = this.#sessions.get(name);
    if (session === undefined) {
      session = createSession(encodeOnnx(graph()), { threads: this.#options.threads, memory: "system" });
      this.#sessions.set(name, session);
    }
    return session;
  }

  #layerSession(direction: "forward" | "backward", layout: PassLayout): Promise<Session> {
    const { config, lora } = this.#options;
    const form = attentionForm(layout);
    return this.#session(
      `${direction} ${nameOf(form)}`,
      () => buildLayerGraphs(config, lora, form)[direction],
    );
  }

  #layerFeeds(layer: number): Feeds {
    return { ...this.#options.weights.layers[layer], ...this.#options.parameters.layers[layer] };
  }

  /** One layer's graph knows no kinds of layers: what a layer with a window has of its own is fed in place of the others'. */
  #ofKind(shared: Feeds, layer: number): Feeds {
    if (!isSliding(this.#options.config, layer)) return shared;
    const own = ["cos", "sin", "causal_mask", "shared_causal_mask"].map((name) => [
      name,
      shared[`sliding_${name}`] as HostTensor,
    ]);
    return { ...shared, ...(Object.fromEntries(own) as Feeds) };
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

  /** The head's outputs, a chunk of loss rows after the other. */
  async #head({ lossRows, targets }: SupervisedPass, hidden: HostTensor<"float32">): Promise<PassResult> {
    const session = await this.#session("head", () => this.#headGraphs.evaluate);
    const total = noResult(lossRows.length);
    for (let start = 0; start < lossRows.length; start += HEAD_ROWS) {
      const chunk = lossRows.subarray(start, start + HEAD_ROWS);
      const results = await session.run({
        ...this.#targetFeeds(targets.subarray(start, start + chunk.length)),
        rows: rowsAt(hidden, chunk),
      });
      addResult(total, results, start, chunk.length);
    }
    return total;
  }

  /** The same, and the gradient by the hidden rows written into `dOutput`. */
  async #trainingHead(
    pass: SupervisedPass,
    hidden: HostTensor<"float32">,
    weights: RowWeights,
    dOutput: Float32Array,
  ): Promise<PassResult> {
    const { lossRows, targets } = pass;
    const width = hidden.shape[1] as number;
    // Weights that depend on all of the pass's log-probabilities cost a run of the head more.
    const ahead = weights.form.needsLogProbabilities ? await this.#head(pass, hidden) : null;
    const total = noResult(lossRows.length);
    const rowWeights = weights.of((ahead ?? total).logProbabilities);
    const session = await this.#session("trainingHead", () => this.#headGraphs.train);
    for (let start = 0; start < lossRows.length; start += HEAD_ROWS) {
      const chunk = lossRows.subarray(start, start + HEAD_ROWS);
      const results = await session.run({
        ...this.#targetFeeds(targets.subarray(start, start + chunk.length)),
        row_weight: float32(rowWeights.slice(start, start + chunk.length), [chunk.length, 1]),
        rows: rowsAt(hidden, chunk),
      });
      addResult(total, results, start, chunk.length);
      const dRows = results["d_rows"]?.data as Float32Array;
      for (const [i, row] of chunk.entries()) {
        dOutput.set(dRows.subarray(i * width, (i + 1) * width), row * width);
      }
    }
    return total;
  }

  /** What the loss head needs besides rows and weights. */
  #targetFeeds(targets: Int32Array): Feeds {
    const { head, finalNorm: norm } = this.#options.weights;
    return { norm, head, targets: int64(BigInt64Array.from(targets, BigInt), [targets.length, 1]) };
  }
}

function nameOf({ queryBlocks, sharedBlocks }: AttentionForm): string {
  return `${queryBlocks} ${sharedBlocks}`;
}

function outputOf(results: Fetches): HostTensor<"float32"> {
  return results["output"] as HostTensor<"float32">;
}

/** Lengthened with zeros to a multiple of `parts`. */
function padded(values: Int32Array, parts: number): Int32Array {
  if (values.length % parts === 0) return values;
  const longer = new Int32Array(Math.ceil(values.length / parts) * parts);
  longer.set(values);
  return longer;
}

/** These rows of a [N, D] tensor. */
function rowsAt({ data, shape }: HostTensor<"float32">, places: Int32Array): HostTensor<"float32"> {
  const width = shape[1] as number;
  const rows = new Float32Array(places.length * width);
  for (const [i, place] of places.entries()) {
    rows.set(data.subarray(place * width, (place + 1) * width), i * width);
  }
  return float32(rows, [places.length, width]);
}

function noResult(rows: number): PassResult {
  return { lossSum: 0, correct: 0, supervised: 0, logProbabilities: new Float32Array(rows) };
}

/** Adds the first `count` rows of a loss head's outputs, which are a pass's loss rows from `start` on. */
function addResult(total: PassResult, results: Fetches, start: number, count: number): void {
  const logProbability = (results["log_probability"]?.data as Float32Array).subarray(0, count);
  const best = results["best_log_probability"]?.data as Float32Array;
  let lossSum = 0;
  for (const [i, value] of logProbability.entries()) {
    lossSum -= value;
    if (value >= (best[i] as number)) total.correct += 1;
  }
  total.lossSum += lossSum;
  total.supervised += count;
  total.logProbabilities.set(logProbability, start);
}

function addTo(gradients: Float32Array, offset: number, gradient: HostTensor<"float32"> | undefined): void {
  const { data } = gradient as HostTensor<"float32">;
  for (let i = 0; i < data.length; i++) {
    gradients[offset + i] = (gradients[offset + i] as number) + (data[i] as number);
  }
}
