// A pass's layout as feeds of the training graphs: the inputs that model/attention's `declareLayout` declares.
import type { PassLayout } from "../data/batches.ts";
import type { AttentionForm } from "../model/attention.ts";
import { causalMask } from "../model/attention-mask.ts";
import type { DecoderWeights } from "../model/decoder-weights.ts";
import type { ModelConfig } from "../model/model-config.ts";
import type { Feeds } from "../runtime/session.ts";
import { float32, int32, int64 } from "../runtime/tensor.ts";
import type { HostTensor } from "../runtime/tensor.ts";

/** Which graph a layout runs in. */
export function attentionForm({ queryBlocks, sharedBlocks }: PassLayout): AttentionForm {
  return { queryBlocks, sharedBlocks };
}

type Angles = Pick<DecoderWeights, "cos" | "sin" | "sliding">;

/** Makes the feeds; keeps the last masks, because passes of like length follow each other. */
export class LayoutFeeds {
  readonly #config: ModelConfig;
  readonly #weights: Angles;
  /** By input. */
  readonly #masks = new Map<string, HostTensor<"float32">>();

  constructor(config: ModelConfig, weights: Angles) {
    this.#config = config;
    this.#weights = weights;
  }

  of(layout: PassLayout): Feeds {
    const { rowCount: B, rowLength: T, queryBlocks, sharedTokens: C, tokens } = layout;
    const own = T - C;
    const { cos, sin } = this.#weights;
    return {
      cos,
      sin,
      positions: int64(layout.positions, [1, tokens.length]),
      block_index: int32(layout.blockIndex, [B, T]),
      flat_index: int32(layout.flatIndex, [tokens.length]),
      block_mask: float32(C === 0 ? layout.blockMask : columnsFrom(layout.blockMask, B, T, C), [B, own, 1]),
      ...this.#masksOfKinds("causal_mask", T, C === 0 ? own / queryBlocks : own),
      ...(this.#weights.sliding === null
        ? {}
        : { sliding_cos: this.#weights.sliding.cos, sliding_sin: this.#weights.sliding.sin }),
      ...(C === 0 ? {} : this.#sharedFeeds(layout)),
    };
  }

  /** SharedLayout of model/attention. */
  #sharedFeeds(layout: PassLayout): Feeds {
    const { rowCount: B, rowLength: T, queryBlocks, sharedBlocks, sharedTokens: C, tokens } = layout;
    const N = tokens.length;
    const Q = T - C;
    const X = B - 1;
    const isShared = Float32Array.from({ length: N }, (_, n) => (n < C ? 1 : 0));
    const ownPlaces = Int32Array.from(layout.flatIndex, (place, n) =>
      n < C ? 0 : Math.floor(place / T) * Q + (place % T) - C,
    );
    return {
      shared_tokens: int32(
        Int32Array.from({ length: C }, (_, n) => n),
        [C],
      ),
      shared_index: int32(
        Int32Array.from({ length: N }, (_, n) => (n < C ? n : 0)),
        [N],
      ),
      shared_mask: float32(isShared, [N, 1]),
      ...this.#masksOfKinds("shared_causal_mask", C, C / sharedBlocks),
      shared_copies: int32(
        Int32Array.from({ length: X * C }, (_, i) => (Math.floor(i / C) + 1) * T + (i % C)),
        [X, C],
      ),
      own_index: int32(columnsFrom(layout.blockIndex, B, T, C), [B, Q]),
      own_places: int32(ownPlaces, [N]),
      places: int32(
        ownPlaces.map((place, n) => (n < C ? n : C + place)),
        [N],
      ),
      key_sizes: int64(
        BigInt64Array.from({ length: 1 + queryBlocks }, (_, i) => BigInt(i === 0 ? C : Q / queryBlocks)),
        [1 + queryBlocks],
      ),
    };
  }

  /** Of layers with a window too, where the model has such. */
  #masksOfKinds(input: string, T: number, U: number): Feeds {
    const { sliding } = this.#config;
    if (sliding === null) return { [input]: this.#mask(input, T, U) };
    return {
      [input]: this.#mask(input, T, U),
      [`sliding_${input}`]: this.#mask(`sliding_${input}`, T, U, sliding.windowTokens),
    };
  }

  #mask(input: string, T: number, U: number, windowTokens?: number): HostTensor<"float32"> {
    const R = this.#config.queryHeads / this.#config.keyValueHeads;
    const last = this.#masks.get(input);
    if (last?.shape[0] === R * U && last.shape[1] === T) return last;
    const mask = causalMask(T, R, U, windowTokens);
    this.#masks.set(input, mask);
    return mask;
  }
}

/** [B, T] without the first `from` columns. */
function columnsFrom<A extends Int32Array | Float32Array>(all: A, B: number, T: number, from: number): A {
  const width = T - from;
  const cut = all.slice(0, B * width) as A;
  for (let b = 0; b < B; b++) cut.set(all.subarray(b * T + from, (b + 1) * T), b * width);
  return cut;
}
