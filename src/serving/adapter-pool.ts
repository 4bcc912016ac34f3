// Adapters read from disk, ready to be fed, the most recently used kept in memory. An adapter in use stays usable after it
// left the pool: whoever holds it holds its arrays.
import { createHash } from "node:crypto";
import { readAdapter } from "../model/adapter.ts";
import type { LoraAdapter } from "../model/adapter.ts";
import { LORA_TARGET_PATH } from "../model/lora-targets.ts";
import { layerFeed } from "../model/decoder.ts";
import type { ModelConfig } from "../model/model-config.ts";
import { float32 } from "../runtime/tensor.ts";
import type { HostTensor } from "../runtime/tensor.ts";
import type { LoadedAdapter } from "./generator.ts";

/** Adapters in memory: at 10 MB each for a 135M model with rank 8 on all layers, 320 MB. */
const MAX_ADAPTERS = 32;

export interface PooledAdapter extends LoadedAdapter {
  /** A hash of the content: a retrained model under an old name never meets the old one's cache. */
  key: string;
}

export class AdapterPool {
  readonly #config: ModelConfig;
  /** By folder, least recently used first. */
  readonly #adapters = new Map<string, Promise<PooledAdapter>>();

  constructor(config: ModelConfig) {
    this.#config = config;
  }

  /** Throws UnsupportedModel when the folder holds no adapter for this base model. */
  async get(folder: string): Promise<PooledAdapter> {
    const found = this.#adapters.get(folder) ?? readAdapter(folder, this.#config).then(toLoadedAdapter);
    this.#adapters.delete(folder);
    this.#adapters.set(folder, found);
    const [oldest] = this.#adapters.keys();
    if (this.#adapters.size > MAX_ADAPTERS && oldest !== undefined) this.#adapters.delete(oldest);
    try {
      return await found;
    } catch (error) {
      this.#adapters.delete(folder);
      throw error;
    }
  }

  forget(folder: string): void {
    this.#adapters.delete(folder);
  }
}

/** An adapter as the generation graph takes it. */
export function toLoadedAdapter({ rank, alpha, targetModules, tensors }: LoraAdapter): PooledAdapter {
  const feeds: Record<string, HostTensor<"float32">> = {};
  const hash = createHash("sha256").update(`${rank} ${alpha}`);
  for (const [name, { shape, data }] of tensors) {
    hash.update(name).update(data);
    const [, layer, path, matrix] = /layers\.(\d+)\.(.+)\.(lora_[AB])\.weight$/.exec(name) ?? [];
    const target = targetModules.find((one) => LORA_TARGET_PATH[one] === path);
    if (target === undefined) throw new Error(`internal: unexpected adapter tensor ${name}`);
    // The graph adds the product as it is; alpha / rank goes into B, so that adapters of any scale share a session.
    const scaled = matrix === "lora_B" ? data.map((value) => (value * alpha) / rank) : data;
    feeds[layerFeed(Number(layer), `${target}.${matrix}`)] = float32(scaled, shape);
  }
  return { key: hash.digest("hex"), targets: targetModules, feeds };
}
