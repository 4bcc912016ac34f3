// The chat engine of this package: base models and adapters from disk, run by ONNX Runtime in this process. Turns messages
// into tokens, hands them to the scheduler and turns what comes back into text.
import type { ChatMessage } from "../data/chat-message.ts";
import { createChatTemplate } from "../data/chat-template.ts";
import { encodePrompt, stopTokenIds } from "../data/prompt.ts";
import type { ChatEncoding } from "../data/prompt.ts";
import { createTextStream, createTokenizer } from "../data/tokenizer.ts";
import type { Tokenizer } from "../data/tokenizer.ts";
import { InvalidRequest } from "../errors.ts";
import { openBaseModel } from "../model/base-model.ts";
import { loadDecoderWeights } from "../model/decoder-weights.ts";
import { AdapterPool } from "./adapter-pool.ts";
import type { ChatEngine, CompletionEvent, CompletionRequest, FinishReason } from "./engine.ts";
import { EventQueue } from "./event-queue.ts";
import { Generator, NO_ADAPTER } from "./generator.ts";
import { createSampler } from "./sampler.ts";
import { Scheduler } from "./scheduler.ts";
import type { Answer } from "./scheduler.ts";
import { createStopTexts } from "./stop-texts.ts";

/** Tokens of prompt and answer together; a model's own limit may be lower. 8,192 take 0.4 GB of cache at 135M parameters. */
const MAX_CONTEXT_TOKENS = 8192;

/**
 * Base models in memory, beside those that requests in flight still use: 0.5 GB each at 135M parameters, 2 GB at 500M. Two,
 * so that comparing models does not load one anew for every request.
 */
const MAX_BASE_MODELS = 2;

/** A base model in memory with everything that serves it. */
interface LoadedBaseModel {
  encoding: ChatEncoding;
  /** No text beyond this many bytes of UTF-8 fits into the context, whatever its tokens. */
  maxTextBytes: number;
  stopIds: ReadonlySet<number>;
  context: number;
  generator: Generator;
  scheduler: Scheduler;
  adapters: AdapterPool;
}

/** A base model's place in memory. */
interface BaseModelSlot {
  loading: Promise<LoadedBaseModel>;
  /** Requests in flight: while there are some it is not released. */
  users: number;
}

export interface EmbeddedEngineOptions {
  threads: number;
}

export class EmbeddedEngine implements ChatEngine {
  readonly #threads: number;
  /** By path, the least recently used first. */
  readonly #baseModels = new Map<string, BaseModelSlot>();
  /** Folders of the adapters that were served, by model id. */
  readonly #folders = new Map<string, { basePath: string; folder: string }>();

  constructor({ threads }: EmbeddedEngineOptions) {
    this.#threads = threads;
  }

  async *complete(request: CompletionRequest): AsyncIterable<CompletionEvent> {
    const slot = this.#baseModel(request.model.baseModel.path);
    slot.users += 1;
    try {
      await this.#releaseUnused();
      yield* this.#complete(request, await slot.loading);
    } finally {
      slot.users -= 1;
      await this.#releaseUnused();
    }
  }

  async *#complete(request: CompletionRequest, base: LoadedBaseModel): AsyncIterable<CompletionEvent> {
    const { model, messages, tools, n, signal } = request;
    const adapter =
      model.adapterPath === null ? { ...NO_ADAPTER, key: "" } : await base.adapters.get(model.adapterPath);
    if (model.adapterPath !== null) {
      this.#folders.set(model.id, { basePath: model.baseModel.path, folder: model.adapterPath });
    }
    requireTextFits(messages, base);
    const tokens = encodePrompt(messages, tools, base.encoding);
    if (tokens.length >= base.context) {
      throw new InvalidRequest(
        `This model's maximum context length is ${base.context} tokens. However, your messages resulted in ${tokens.length} tokens. Please reduce the length of the messages.`,
        { code: "context_length_exceeded", param: "messages" },
      );
    }
    const events = new EventQueue<CompletionEvent>();
    const maxTokens = Math.min(request.maxTokens ?? Infinity, base.context - tokens.length);
    let open = n;
    const answers = Array.from({ length: n }, (_, index) =>
      createAnswer(
        request,
        base,
        index,
        maxTokens,
        (event) => {
          events.push(event);
          if (event.type === "finish" && --open === 0) events.end();
        },
        (error) => events.fail(error),
      ),
    );
    // When one of the answers fails, or nobody reads on, the others end too.
    const own = new AbortController();
    const either = AbortSignal.any([signal, own.signal]);
    base.scheduler.submit({ tokens, adapterKey: adapter.key, adapter, answers, signal: either });
    const stopWaiting = (): void => events.end();
    if (signal.aborted) stopWaiting();
    else signal.addEventListener("abort", stopWaiting, { once: true });
    try {
      yield { type: "prompt", promptTokens: tokens.length };
      yield* events;
    } finally {
      own.abort();
      signal.removeEventListener("abort", stopWaiting);
    }
  }

  async forget(modelId: string): Promise<void> {
    const served = this.#folders.get(modelId);
    if (served === undefined) return;
    this.#folders.delete(modelId);
    (await this.#baseModels.get(served.basePath)?.loading)?.adapters.forget(served.folder);
  }

  async close(): Promise<void> {
    const slots = [...this.#baseModels.values()];
    this.#baseModels.clear();
    for (const slot of slots) await release(slot);
  }

  #baseModel(path: string): BaseModelSlot {
    let slot = this.#baseModels.get(path);
    if (slot === undefined) {
      const made: BaseModelSlot = { loading: load(path, this.#threads), users: 0 };
      // A model that could not be loaded may be mended on disk: the next request tries again.
      made.loading.catch(() => {
        if (this.#baseModels.get(path) === made) this.#baseModels.delete(path);
      });
      slot = made;
    }
    this.#baseModels.delete(path);
    this.#baseModels.set(path, slot);
    return slot;
  }

  /** Beyond the limit, lets go of the base models that nobody uses, the least recently used first. */
  async #releaseUnused(): Promise<void> {
    for (const [path, slot] of this.#baseModels) {
      if (this.#baseModels.size <= MAX_BASE_MODELS) return;
      if (slot.users > 0) continue;
      this.#baseModels.delete(path);
      await release(slot);
    }
  }
}

async function release({ loading }: BaseModelSlot): Promise<void> {
  const base = await loading.catch(() => null);
  await base?.scheduler.close();
  await base?.generator.release();
}

async function load(path: string, threads: number): Promise<LoadedBaseModel> {
  const model = await openBaseModel(path);
  try {
    const { config } = model;
    const encoding = {
      tokenizer: createTokenizer(model.tokenizer),
      template: createChatTemplate(model.tokenizer),
    };
    const context = Math.min(config.maxPositions, MAX_CONTEXT_TOKENS);
    const generator = new Generator({ config, weights: loadDecoderWeights(model, context), threads });
    return {
      encoding,
      maxTextBytes: context * longestTokenBytes(encoding.tokenizer),
      stopIds: new Set([...stopTokenIds(encoding), ...config.eosTokenIds]),
      context,
      generator,
      scheduler: new Scheduler(generator),
      adapters: new AdapterPool(config),
    };
  } finally {
    await model.close();
  }
}

function longestTokenBytes(tokenizer: Tokenizer): number {
  let longest = 0;
  for (let id = 0; id < tokenizer.vocabSize; id++)
    longest = Math.max(longest, tokenizer.tokenBytes(id).length);
  return longest;
}

/** Looked at before anything is encoded: that blocks the whole server, for a minute where the text is as long as a body may be. */
function requireTextFits(messages: readonly ChatMessage[], { context, maxTextBytes }: LoadedBaseModel): void {
  const bytes = messages.reduce((sum, { content }) => sum + Buffer.byteLength(content ?? ""), 0);
  if (bytes <= maxTextBytes) return;
  throw new InvalidRequest(
    `This model's maximum context length is ${context} tokens, which hold at most ${maxTextBytes} bytes of text. However, your messages have ${bytes} bytes. Please reduce the length of the messages.`,
    { code: "context_length_exceeded", param: "messages" },
  );
}

/** One of the n answers: from tokens to text, until a stop token, a stop text or the limit. */
function createAnswer(
  { temperature, topP, seed, stop }: CompletionRequest,
  { encoding, stopIds }: LoadedBaseModel,
  index: number,
  maxTokens: number,
  emit: (event: CompletionEvent) => void,
  fail: (error: unknown) => void,
): Answer {
  const text = createTextStream(encoding.tokenizer, { skipSpecialTokens: true });
  const stops = createStopTexts(stop);
  let completionTokens = 0;
  const send = (piece: string): void => {
    if (piece !== "") emit({ type: "text-delta", index, text: piece });
  };
  const finish = (reason: FinishReason): false => {
    emit({ type: "finish", index, reason, completionTokens });
    return false;
  };
  return {
    sampler: createSampler({ temperature, topP, seed: answerSeed(seed, index) }),
    fail,
    token(token) {
      if (stopIds.has(token)) {
        const rest = stops.push(text.flush());
        send(rest.text);
        if (!rest.stopped) send(stops.flush());
        return finish("stop");
      }
      completionTokens += 1;
      const { text: piece, stopped } = stops.push(text.push(token));
      send(piece);
      if (stopped) return finish("stop");
      if (completionTokens < maxTokens) return true;
      const rest = stops.push(text.flush());
      send(rest.text);
      if (!rest.stopped) send(stops.flush());
      return finish("length");
    },
  };
}

/** Answers to one request differ, but the same request gives the same ones. */
function answerSeed(seed: number | null, index: number): number {
  return seed === null ? Math.floor(Math.random() * 0x1_0000_0000) : seed + index * 0x9e3779b9;
}
