// Texts or token ids to unit-length vectors with an encoder in this process: cuts long inputs into windows, gathers windows of
// like length into passes, averages and normalizes. Knows no HTTP, and nothing of where models come from.
import { setImmediate as nextTurn } from "node:timers/promises";
import { splitByLength } from "../data/batches.ts";
import { createWordPieceTokenizer } from "../data/word-piece.ts";
import type { WordPieceTokenizer } from "../data/word-piece.ts";
import { Cancelled, InvalidRequest, Overloaded } from "../errors.ts";
import { openEncoder } from "../model/encoder-model.ts";
import { EncoderRunner } from "./encoder-runner.ts";
import type { Window } from "./encoder-runner.ts";

export interface EmbeddingRequest {
  /** As resolveBaseModel gives it. */
  model: { id: string; path: string };
  /** Texts, or ids of the model's own vocabulary without special tokens. */
  inputs: readonly (string | readonly number[])[];
  /** Keeps this many leading numbers of each vector; null: all. */
  dimensions: number | null;
  signal: AbortSignal;
}

export interface EmbeddingAnswer {
  /** One for each input, in their order, of length 1. */
  vectors: Float32Array[];
  /** Of all inputs, without the tokens that frame each window. */
  tokenCount: number;
}

export interface EmbeddingEngine {
  /** Throws InvalidRequest for inputs and dimensions that the model cannot take, Unavailable when too many wait. */
  embed(request: EmbeddingRequest): Promise<EmbeddingAnswer>;
  close(): Promise<void>;
}

/** Tokens of one input; OpenAI's limit. */
const MAX_INPUT_TOKENS = 8192;

/** Tokens of one request; OpenAI's limit. */
const MAX_REQUEST_TOKENS = 300_000;

/** Tokens a window holds with its frame: what all-MiniLM was published to read at once. Longer inputs are several. */
const WINDOW_TOKENS = 256;

/** Tokens of one pass; the server stands still for it, some 80 ms at 22M parameters on two cores. */
const PASS_TOKENS = 512;

/** Requests worked on at a time; their passes take turns. Each holds its inputs and vectors, up to about 20 MB. */
const MAX_REQUESTS = 64;

/** Encoding text gives way to other requests after this long. */
const ENCODE_SLICE_MS = 20;

/** One of the inputs on its way. */
interface Input {
  /** Sum of its windows' shares; the vector when all are in. */
  sum: Float32Array;
}

interface InputWindow extends Window {
  input: Input;
}

interface LoadedEncoder {
  tokenizer: WordPieceTokenizer;
  runner: EncoderRunner;
}

export class EncoderEngine implements EmbeddingEngine {
  readonly #threads: number;
  /** By path; an encoder stays loaded once it was used. */
  readonly #encoders = new Map<string, Promise<LoadedEncoder>>();
  #running = 0;

  constructor({ threads }: { threads: number }) {
    this.#threads = threads;
  }

  async embed(request: EmbeddingRequest): Promise<EmbeddingAnswer> {
    if (this.#running >= MAX_REQUESTS) {
      throw new Overloaded(
        `${this.#running} embedding requests are worked on already, which is the limit. Try again in a moment.`,
        { code: "server_is_overloaded" },
      );
    }
    this.#running += 1;
    try {
      return await embedWith(await this.#encoder(request.model.path), request);
    } finally {
      this.#running -= 1;
    }
  }

  async close(): Promise<void> {
    const encoders = [...this.#encoders.values()];
    this.#encoders.clear();
    await Promise.allSettled(encoders.map(async (encoder) => (await encoder).runner.release()));
  }

  #encoder(path: string): Promise<LoadedEncoder> {
    let loading = this.#encoders.get(path);
    if (loading === undefined) {
      loading = load(path, this.#threads);
      this.#encoders.set(path, loading);
      // A model that could not be loaded may be mended on disk: the next request tries again.
      loading.catch(() => this.#encoders.delete(path));
    }
    return loading;
  }
}

/** Texts to vectors, for those who measure likeness and do not care which model does. */
export type EmbedTexts = (texts: readonly string[], signal: AbortSignal) => Promise<Float32Array[]>;

/** An EmbedTexts over one model; `locate` may fetch it first. */
export function createEmbedTexts(
  engine: EmbeddingEngine,
  locate: (signal: AbortSignal) => Promise<{ id: string; path: string }>,
): EmbedTexts {
  return async (texts, signal) => {
    const model = await locate(signal);
    const { vectors } = await engine.embed({ model, inputs: texts, dimensions: null, signal });
    return vectors;
  };
}

async function load(path: string, threads: number): Promise<LoadedEncoder> {
  const model = openEncoder(path);
  const tokenizer = createWordPieceTokenizer(model.tokenizer);
  return { tokenizer, runner: await EncoderRunner.create(model, threads) };
}

async function embedWith(
  { tokenizer, runner }: LoadedEncoder,
  { model, inputs, dimensions, signal }: EmbeddingRequest,
): Promise<EmbeddingAnswer> {
  const width = runner.config.hiddenSize;
  if (dimensions !== null && dimensions > width) {
    throw new InvalidRequest(
      `Invalid value for 'dimensions' = ${dimensions}. Must be less than or equal to ${width}, the width of ${model.id}, which answers here.`,
      { param: "dimensions" },
    );
  }
  const encoded = await encodeInputs(tokenizer, inputs, signal);
  const windowTokens = Math.min(WINDOW_TOKENS, runner.config.maxPositions);
  const sums = encoded.map((): Input => ({ sum: new Float32Array(width) }));
  const windows = encoded.flatMap((ids, i): InputWindow[] =>
    cutIntoWindows(ids, windowTokens, tokenizer).map((window) => ({ ...window, input: sums[i] as Input })),
  );
  for (const pass of splitByLength(windows, PASS_TOKENS)) {
    // Other requests, and chat, have their turn between two passes.
    await nextTurn();
    if (signal.aborted) throw new Cancelled();
    const pooled = await runner.run(pass);
    for (const [row, { input }] of pass.entries())
      addTo(input.sum, pooled.subarray(row * width, (row + 1) * width));
  }
  return {
    vectors: sums.map(({ sum }) => unitVector(sum.subarray(0, dimensions ?? width))),
    tokenCount: encoded.reduce((total, ids) => total + ids.length, 0),
  };
}

async function encodeInputs(
  tokenizer: WordPieceTokenizer,
  inputs: EmbeddingRequest["inputs"],
  signal: AbortSignal,
): Promise<(readonly number[])[]> {
  let total = 0;
  let sliceEnd = performance.now() + ENCODE_SLICE_MS;
  const encoded: (readonly number[])[] = [];
  for (const [index, input] of inputs.entries()) {
    const param = `input[${index}]`;
    const ids: number[] = [];
    for (const part of typeof input === "string" ? tokenizer.encodeInParts(input) : [input]) {
      if (typeof input !== "string") checkIds(part, tokenizer, param);
      for (const id of part) ids.push(id);
      if (ids.length > MAX_INPUT_TOKENS) {
        throw new InvalidRequest(
          `Invalid '${param}': maximum context length is ${MAX_INPUT_TOKENS} tokens, but it has at least ${ids.length}. Send the text in shorter pieces.`,
          { code: "context_length_exceeded", param: "input" },
        );
      }
      if (performance.now() < sliceEnd) continue;
      await nextTurn();
      if (signal.aborted) throw new Cancelled();
      sliceEnd = performance.now() + ENCODE_SLICE_MS;
    }
    total += ids.length;
    if (total > MAX_REQUEST_TOKENS) {
      throw new InvalidRequest(
        `Requested at least ${total} tokens, max ${MAX_REQUEST_TOKENS} tokens per request. Send fewer inputs at once.`,
        { code: "max_tokens_per_request" },
      );
    }
    encoded.push(ids);
  }
  return encoded;
}

function checkIds(ids: readonly number[], tokenizer: WordPieceTokenizer, param: string): void {
  const wrong = ids.findIndex((id) => id >= tokenizer.vocabSize || isFrame(id, tokenizer));
  if (wrong < 0) return;
  const id = ids[wrong];
  throw new InvalidRequest(
    `Invalid '${param}[${wrong}]': ${id} ${
      id !== undefined && id < tokenizer.vocabSize
        ? "is a special token, which the server adds itself. Send the text's tokens only."
        : `is no token id: the model's vocabulary has ${tokenizer.vocabSize}. Token ids are those of the model that answers; send the text if yours are another tokenizer's.`
    }`,
    { code: "invalid_value", param: "input" },
  );
}

const isFrame = (id: number, { startId, endId }: WordPieceTokenizer): boolean =>
  id === startId || id === endId;

/** Windows of as equal length as can be; the shares of one input's tokens add up to 1. */
function cutIntoWindows(
  ids: readonly number[],
  windowTokens: number,
  { startId, endId }: WordPieceTokenizer,
): Window[] {
  const count = Math.max(1, Math.ceil(ids.length / (windowTokens - 2)));
  const total = ids.length + 2 * count;
  return Array.from({ length: count }, (_, i) => {
    const [start, end] = [i, i + 1].map((edge) => Math.floor((edge * ids.length) / count));
    return { tokens: Int32Array.of(startId, ...ids.slice(start, end), endId), share: 1 / total };
  });
}

function addTo(sum: Float32Array, part: Float32Array): void {
  for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] as number) + (part[i] as number);
}

/** Below this, a vector is taken as nothing and stays so: the bound of the reference's normalization. */
const MIN_LENGTH = 1e-12;

/** The vector at length 1, as a copy. */
export function unitVector(vector: Float32Array): Float32Array {
  const length = Math.sqrt(vector.reduce((sum, x) => sum + x * x, 0));
  return vector.map((x) => x / Math.max(length, MIN_LENGTH));
}
