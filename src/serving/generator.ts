// Runs the generation graph for one base model: reads prompts into a cache, takes decode steps for all rows of a cache.
// It owns the base model's weights and sessions and knows neither text nor who asked.
import { layOut } from "../data/batches.ts";
import type { PassLayout } from "../data/batches.ts";
import { encodeOnnx } from "../graph/onnx.ts";
import { causalMask } from "../model/attention-mask.ts";
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

/** Prompt tokens of one run: the thread stands still for it, about half a second at 135M parameters on two cores. */
const PROMPT_CHUNK_TOKENS = 256;

/** An adapter as feeds; B scaled by alpha / rank. */
export interface LoadedAdapter {
  targets: readonly LoraTarget[];
  feeds: Readonly<Record<string, HostTensor<"float32">>>;
}

export const NO_ADAPTER: LoadedAdapter = { targets: [], feeds: {} };

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
    this.#weightFeeds = feeds;
  }

  newCache(): KeyValueCache {
    return new KeyValueCache(this.config);
  }

  /** Reads a prompt into an empty one-row cache; the logits [V] behind its last token. */
  async readPrompt(
    tokens: readonly number[],
    adapter: LoadedAdapter,
    signal?: AbortSignal,
  ): Promise<{ cache: KeyValueCache; logits: Float32Array }> {
    const cache = this.newCache();
    cache.addRow();
    let logits: Float32Array = new Float32Array(0);
    for (let start = 0; start < tokens.length; start += PROMPT_CHUNK_TOKENS) {
      signal?.throwIfAborted();
      const chunk = Int32Array.from(tokens.slice(start, start + PROMPT_CHUNK_TOKENS));
      const results = await this.#run(cache, layOut([chunk], start), adapter);
      cache.append(0, results.keysValues, 0, chunk.length);
      logits = results.logits;
    }
    return { cache, logits };
  }

  /** Feeds one more token to every row of the cache; the logits [B, V] behind them. */
  async step(cache: KeyValueCache, tokens: readonly number[], adapter: LoadedAdapter): Promise<Float32Array> {
    const layout = layOut(tokens.map((token) => Int32Array.of(token)));
    for (let row = 0; row < tokens.length; row++) layout.positions[row] = BigInt(cache.length(row));
    const { logits, keysValues } = await this.#run(cache, layout, adapter);
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
    adapter: LoadedAdapter,
  ): Promise<{ logits: Float32Array; keysValues: Float32Array }> {
    const session = await this.#session(adapter.targets);
    const { rowCount: B, rowLength: T, tokens } = layout;
    const past = cache.feeds();
    const last = Int32Array.from({ length: B }, (_, row) => (row + 1) * (tokens.length / B) - 1);
    const results = await session.run({
      ...this.#weightFeeds,
      ...adapter.feeds,
      ...past.feeds,
      past_sizes: int64(BigInt64Array.of(BigInt(past.places), BigInt(T)), [2]),
      tokens: int32(tokens, [tokens.length]),
      last: int32(last, [B]),
      positions: int64(layout.positions, [1, tokens.length]),
      block_index: int32(layout.blockIndex, [B, T]),
      flat_index: int32(layout.flatIndex, [tokens.length]),
      block_mask: float32(layout.blockMask, [B, T, 1]),
      causal_mask: this.#causalMask(T),
    });
    return {
      logits: results["logits"]?.data as Float32Array,
      keysValues: results["keys_values"]?.data as Float32Array,
    };
  }

  /** One session per set of adapted layers: adapters of the same kind share it, whatever their rank. */
  #session(targets: readonly LoraTarget[]): Promise<Session> {
    const key = targets.join(",");
    let session = this.#sessions.get(key);
    if (session === undefined) {
      session = createSession(encodeOnnx(buildGenerationGraph(this.config, targets)), {
        threads: this.#threads,
      });
      this.#sessions.set(key, session);
      // What failed for want of memory may succeed later: the next request tries again.
      session.catch(() => this.#sessions.delete(key));
    }
    return session;
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
