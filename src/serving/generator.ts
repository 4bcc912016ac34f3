// Runs the generation graph for one base model: reads prompts into a cache, takes decode steps for all rows of a cache.
// It owns the base model's weights and sessions and knows neither text nor who asked.
import { layOut } from "../data/batches.ts";
import { commonBeginning } from "../data/beginnings.ts";
import type { PassLayout } from "../data/batches.ts";
import { encodeOnnx } from "../graph/onnx.ts";
import { causalMask, slidingPastMask } from "../model/attention-mask.ts";
import { layerFeed } from "../model/decoder.ts";
import type { DecoderWeights } from "../model/decoder-weights.ts";
import type { LoraTarget } from "../model/lora-targets.ts";
import type { ModelConfig } from "../model/model-config.ts";
import { createSession } from "../runtime/session.ts";
import type { Feeds, Session } from "../runtime/session.ts";
import { float32, int32, int64 } from "../runtime/tensor.ts";
import type { HostTensor } from "../runtime/tensor.ts";
import { buildGenerationGraph } from "./generation-graph.ts";
import { KeyValueCache } from "./key-value-cache.ts";
import { PROMPT_CHUNK_TOKENS, SCORED_CHUNK_TOKENS } from "./prompt-passes.ts";

/**
 * Steps of 2 to this many rows run a graph of their own, whose products read each weight in place (generation-graph.ts).
 * Alone a row is fastest the usual way; beyond 32 rows both ways are.
 */
const NARROW_ROWS = { min: 2, max: 32 };

/** An adapter as feeds; B scaled by alpha / rank. */
export interface LoadedAdapter {
  targets: readonly LoraTarget[];
  feeds: Readonly<Record<string, HostTensor<"float32">>>;
}

export const NO_ADAPTER: LoadedAdapter = { targets: [], feeds: {} };

/** Told of the logits [V] behind the token at this place of a prompt; they are only lent. */
export type OnPromptLogits = (place: number, logits: Float32Array) => void;

/** A prompt on its way through the model, all of it or a part. */
export interface PromptReading {
  readonly tokens: readonly number[];
  /** One row, with what was read so far. */
  readonly cache: KeyValueCache;
  /** Behind the last token read [V]; empty before the first pass. */
  logits: Float32Array;
  /** Null: only the logits behind the last token are worked out. */
  readonly onLogits: OnPromptLogits | null;
}

export interface GeneratorOptions {
  config: ModelConfig;
  weights: DecoderWeights;
  threads: number;
}

export class Generator {
  readonly config: ModelConfig;
  readonly #threads: number;
  readonly #weightFeeds: Feeds;
  readonly #sessions = new Map<string, Promise<Session>>();
  readonly #masks = new Map<number, HostTensor<"float32">>();

  constructor({ config, weights, threads }: GeneratorOptions) {
    this.config = config;
    this.#threads = threads;
    const feeds: Record<string, HostTensor> = {
      embedding: weights.embedding,
      head: weights.head,
      norm: weights.finalNorm,
      cos: weights.cos,
      sin: weights.sin,
    };
    for (const [layer, tensors] of weights.layers.entries()) {
      for (const [name, tensor] of Object.entries(tensors)) feeds[layerFeed(layer, name)] = tensor;
    }
    if (weights.sliding !== null) {
      feeds["sliding_cos"] = weights.sliding.cos;
      feeds["sliding_sin"] = weights.sliding.sin;
    }
    this.#weightFeeds = feeds;
  }

  newCache(): KeyValueCache {
    return new KeyValueCache(this.config);
  }

  beginPrompt(tokens: readonly number[], onLogits: OnPromptLogits | null = null): PromptReading {
    const cache = this.newCache();
    cache.addRow();
    return { tokens, cache, logits: new Float32Array(0), onLogits };
  }

  /** One pass: the next chunk of a single prompt, or all of several that were just begun and are not scored. */
  async readPass(readings: readonly PromptReading[], adapter: LoadedAdapter): Promise<void> {
    const [first] = readings;
    if (first === undefined) return;
    if (readings.length === 1) return this.#readChunk(first, adapter);
    const past = this.newCache();
    const rows = readings.map(({ tokens, cache, onLogits }) => {
      if (cache.length(0) > 0 || onLogits !== null)
        throw new Error("internal: only prompts that were just begun share a pass");
      past.addRow();
      return Int32Array.from(tokens);
    });
    // What all of them begin with, a system message as a rule, is read once; each keeps a token of its own.
    const sharedTokens = commonBeginning(rows, Math.min(...rows.map((row) => row.length)) - 1);
    const layout = layOut(rows, { sharedTokens });
    const { logits, keysValues } = await this.#run(past, layout, lastTokens(layout), adapter);
    const vocabSize = logits.length / readings.length;
    let start = sharedTokens;
    for (const [row, reading] of readings.entries()) {
      const ownTokens = reading.tokens.length - sharedTokens;
      if (sharedTokens > 0) reading.cache.append(0, keysValues, 0, sharedTokens);
      reading.cache.append(0, keysValues, start, ownTokens);
      // A copy, so that a prompt that waits on does not keep the others' logits.
      reading.logits = logits.slice(row * vocabSize, (row + 1) * vocabSize);
      start += ownTokens;
    }
  }

  /** Reads a whole prompt, pass after pass. */
  async readPrompt(tokens: readonly number[], adapter: LoadedAdapter): Promise<PromptReading> {
    const reading = this.beginPrompt(tokens);
    while (!isRead(reading)) await this.readPass([reading], adapter);
    return reading;
  }

  async #readChunk(reading: PromptReading, adapter: LoadedAdapter): Promise<void> {
    const { cache, onLogits } = reading;
    const start = cache.length(0);
    const size = onLogits === null ? PROMPT_CHUNK_TOKENS : SCORED_CHUNK_TOKENS;
    const chunk = Int32Array.from(reading.tokens.slice(start, start + size));
    const layout = layOut([chunk], { firstPosition: start });
    const wanted = onLogits === null ? lastTokens(layout) : Int32Array.from(chunk.keys());
    const { logits, keysValues } = await this.#run(cache, layout, wanted, adapter);
    cache.append(0, keysValues, 0, chunk.length);
    const { vocabSize } = this.config;
    reading.logits = logits.length === vocabSize ? logits : logits.slice(-vocabSize);
    if (onLogits === null) return;
    for (let i = 0; i < chunk.length; i++) {
      onLogits(start + i, logits.subarray(i * vocabSize, (i + 1) * vocabSize));
    }
  }

  /** Feeds one more token to every row of the cache; the logits [B, V] behind them. */
  async step(cache: KeyValueCache, tokens: readonly number[], adapter: LoadedAdapter): Promise<Float32Array> {
    const layout = layOut(tokens.map((token) => Int32Array.of(token)));
    for (let row = 0; row < tokens.length; row++) layout.positions[row] = BigInt(cache.length(row));
    const { logits, keysValues } = await this.#run(cache, layout, lastTokens(layout), adapter);
    for (let row = 0; row < tokens.length; row++) cache.append(row, keysValues, row, 1);
    return logits;
  }

  async release(): Promise<void> {
    const sessions = [...this.#sessions.values()];
    this.#sessions.clear();
    await Promise.allSettled(sessions.map(async (session) => (await session).release()));
  }

  async #run(
    cache: KeyValueCache,
    layout: PassLayout,
    wanted: Int32Array,
    adapter: LoadedAdapter,
  ): Promise<{ logits: Float32Array; keysValues: Float32Array }> {
    const { rowCount: B, rowLength: T, tokens } = layout;
    const narrow = tokens.length >= NARROW_ROWS.min && tokens.length <= NARROW_ROWS.max;
    const session = await this.#session(adapter.targets, narrow);
    const past = cache.feeds();
    const results = await session.run({
      ...this.#weightFeeds,
      ...adapter.feeds,
      ...past.feeds,
      past_sizes: int64(BigInt64Array.of(BigInt(past.places), BigInt(T)), [2]),
      tokens: int32(tokens, [tokens.length]),
      wanted: int32(wanted, [wanted.length]),
      positions: int64(layout.positions, [1, tokens.length]),
      block_index: int32(layout.blockIndex, [B, T]),
      flat_index: int32(layout.flatIndex, [tokens.length]),
      block_mask: float32(layout.blockMask, [B, T, 1]),
      causal_mask: this.#causalMask(T),
      ...this.#slidingMasks(T, cache.lengths, past.places),
    });
    return {
      logits: results["logits"]?.data as Float32Array,
      keysValues: results["keys_values"]?.data as Float32Array,
    };
  }

  /** Sessions per set of adapted layers: adapters of the same kind share them, whatever their rank. */
  #session(targets: readonly LoraTarget[], narrow: boolean): Promise<Session> {
    const key = `${narrow ? "narrow" : "wide"} ${targets.join(",")}`;
    let session = this.#sessions.get(key);
    if (session === undefined) {
      session = createSession(encodeOnnx(buildGenerationGraph(this.config, targets, { narrow })), {
        threads: this.#threads,
      });
      this.#sessions.set(key, session);
      // What failed for want of memory may succeed later: the next request tries again.
      session.catch(() => this.#sessions.delete(key));
    }
    return session;
  }

  /** For the layers with a window, where the model has any. */
  #slidingMasks(T: number, lengths: readonly number[], S: number): Feeds {
    const { sliding, queryHeads, keyValueHeads } = this.config;
    if (sliding === null) return {};
    const { windowTokens } = sliding;
    const R = queryHeads / keyValueHeads;
    return {
      sliding_causal_mask: T <= windowTokens ? this.#causalMask(T) : causalMask(T, R, T, windowTokens),
      sliding_past_mask: slidingPastMask(lengths, { T, R, S, windowTokens }),
    };
  }

  #causalMask(T: number): HostTensor<"float32"> {
    let mask = this.#masks.get(T);
    if (mask === undefined) {
      mask = causalMask(T, this.config.queryHeads / this.config.keyValueHeads);
      // Of all lengths a prompt's last chunk can have, only the two that recur are worth keeping.
      if (T === 1 || T === PROMPT_CHUNK_TOKENS) this.#masks.set(T, mask);
    }
    return mask;
  }
}

export function isRead({ tokens, cache }: PromptReading): boolean {
  return cache.length(0) === tokens.length;
}

/** [B]: the flat place of each row's last token. */
function lastTokens({ rowCount: B, rowLength: T, blockMask, blockIndex }: PassLayout): Int32Array {
  return Int32Array.from({ length: B }, (_, row) => {
    let t = T - 1;
    while (blockMask[row * T + t] === 0) t -= 1;
    return blockIndex[row * T + t] as number;
  });
}
