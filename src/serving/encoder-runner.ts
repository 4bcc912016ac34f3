// Runs one encoder's graph: windows of tokens in, one averaged vector for each out. Owns the weights and the session; knows
// neither text nor inputs of several windows.
import { layOut } from "../data/batches.ts";
import { encodeOnnx } from "../graph/onnx.ts";
import { FORBIDDEN } from "../model/attention-mask.ts";
import type { EncoderConfig } from "../model/encoder-config.ts";
import type { EncoderModel } from "../model/encoder-model.ts";
import { buildEncoderGraph } from "../model/encoder.ts";
import { createSession } from "../runtime/session.ts";
import type { Session } from "../runtime/session.ts";
import { float32, int32, int64 } from "../runtime/tensor.ts";

/** A row of the encoder: a text, or a piece of one. */
export interface Window {
  /** With the special tokens that frame it. */
  tokens: Int32Array;
  /** Of each token in the vector: 1 / tokens for a mean. */
  share: number;
}

export class EncoderRunner {
  readonly config: EncoderConfig;
  readonly #feeds: EncoderModel["feeds"];
  readonly #session: Session;

  private constructor(model: EncoderModel, session: Session) {
    this.config = model.config;
    this.#feeds = model.feeds;
    this.#session = session;
  }

  static async create(model: EncoderModel, threads: number): Promise<EncoderRunner> {
    const session = await createSession(encodeOnnx(buildEncoderGraph(model.config)), { threads });
    return new EncoderRunner(model, session);
  }

  /** The windows' vectors one after the other: [B, D]. */
  async run(windows: readonly Window[]): Promise<Float32Array> {
    const layout = layOut(windows.map(({ tokens }) => tokens));
    const { rowCount: B, rowLength: T, tokens } = layout;
    const N = tokens.length;
    const pool = new Float32Array(B * N);
    let start = 0;
    for (const [row, window] of windows.entries()) {
      const end = start + window.tokens.length;
      pool.fill(window.share, row * N + start, row * N + end);
      start = end;
    }
    const results = await this.#session.run({
      ...this.#feeds,
      tokens: int32(tokens, [N]),
      positions: int64(layout.positions, [N]),
      block_index: int32(layout.blockIndex, [B, T]),
      flat_index: int32(layout.flatIndex, [N]),
      mask: float32(
        layout.blockMask.map((isToken) => (isToken === 1 ? 0 : FORBIDDEN)),
        [B, 1, 1, T],
      ),
      pool: float32(pool, [B, N]),
    });
    return results["pooled"]?.data as Float32Array;
  }

  release(): Promise<void> {
    return this.#session.release();
  }
}
