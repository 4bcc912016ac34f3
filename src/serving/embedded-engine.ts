// The chat engine of this package: base models and adapters from disk, run by ONNX Runtime in this process. Turns messages
// into tokens, hands them to the scheduler and turns what comes back into text.
import { setImmediate as nextTurn } from "node:timers/promises";
import { createChatTemplate } from "../data/chat-template.ts";
import { stopTokenIds } from "../data/prompt.ts";
import type { ChatEncoding } from "../data/prompt.ts";
import { createTokenizer } from "../data/tokenizer.ts";
import { InvalidRequest, TunesmithError, UnsupportedModel } from "../errors.ts";
import { openBaseModel } from "../model/base-model.ts";
import { loadInSteps } from "../model/decoder-weights.ts";
import { finishInTurns } from "../steps.ts";
import { AdapterPool } from "./adapter-pool.ts";
import { createAnswer } from "./answer.ts";
import type { AnswerParts } from "./answer.ts";
import type {
  ChatEngine,
  ChatPrompt,
  CompletionEvent,
  CompletionRequest,
  GenerationOptions,
  ServedModel,
  TextRequest,
} from "./engine.ts";
import { EventQueue } from "./event-queue.ts";
import { Generator, NO_ADAPTER } from "./generator.ts";
import { GrammarPool } from "./grammar.ts";
import type { AnswerForm } from "./answer-form.ts";
import { countChat, encodeChat, encodeText, leastMessageTokens } from "./prompt-encoding.ts";
import type { PromptParam } from "./prompt-encoding.ts";
import { DEFAULT_LIMITS, Scheduler } from "./scheduler.ts";
import type { Answer, SchedulerLimits } from "./scheduler.ts";
import { createPromptScores } from "./token-reports.ts";
import { offerTools, toolForm } from "./tools.ts";

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
  /** What the template writes for a message, its text aside. */
  messageTokens: number;
  /** Rows of the embedding: a model may have more than its tokenizer has tokens. */
  vocabSize: number;
  stopIds: ReadonlySet<number>;
  context: number;
  generator: Generator;
  scheduler: Scheduler;
  adapters: AdapterPool;
  grammars: GrammarPool;
}

/** A prompt and what its answers are held to. */
interface Task {
  options: GenerationOptions;
  tokens: readonly number[];
  /** The request's name for the prompt, for messages. */
  param: PromptParam;
  form: AnswerForm | null;
  tools: AnswerParts["tools"];
  /** Of plain text: what its prompt event says beside the number of tokens. */
  prompt?: { text: string; isScored: boolean };
}

/** Whoever asks for a model did not write its adapter, so nothing about the request would mend it. Names no folder: clients read it. */
function adapterLost(modelId: string, cause: UnsupportedModel): TunesmithError {
  return new TunesmithError(
    `The adapter of the model '${modelId}' cannot be read: its files on the server are damaged, gone, or made for another base model. The server's log says which; have them put back from a copy, or train the model again.`,
    { code: "unsupported_adapter", param: "model", cause },
  );
}

/** A base model's place in memory. */
interface BaseModelSlot {
  loading: Promise<LoadedBaseModel>;
  /** Requests in flight: while there are some it is not released. */
  users: number;
}

export interface EmbeddedEngineOptions {
  threads: number;
  /** Milliseconds that a prompt may wait in the queue; left out: the scheduler's own limit. */
  queueTimeoutMs?: number;
}

export class EmbeddedEngine implements ChatEngine {
  readonly #threads: number;
  readonly #limits: SchedulerLimits;
  /** By path, the least recently used first. */
  readonly #baseModels = new Map<string, BaseModelSlot>();
  /** Folders of the adapters that were served, by model id. */
  readonly #folders = new Map<string, { basePath: string; folder: string }>();

  constructor({ threads, queueTimeoutMs = DEFAULT_LIMITS.maxWaitMs }: EmbeddedEngineOptions) {
    this.#threads = threads;
    this.#limits = { ...DEFAULT_LIMITS, maxWaitMs: queueTimeoutMs };
  }

  async *complete(request: CompletionRequest): AsyncIterable<CompletionEvent> {
    yield* this.#withBase(request, async (base) => {
      const { promptParam = "messages", form = null } = request;
      const tokens = await encodeChat(request, base, request.signal);
      const offered = offerTools(request, base.encoding.template);
      return {
        options: request,
        tokens,
        param: promptParam,
        form: offered === null ? form : toolForm(request, offered),
        tools: offered,
      };
    });
  }

  async *completeText(request: TextRequest): AsyncIterable<CompletionEvent> {
    yield* this.#withBase(request, async (base) => {
      const { prompt, signal } = request;
      const { tokenizer } = base.encoding;
      const tokens = typeof prompt === "string" ? await encodeText(prompt, base, signal) : prompt;
      const stranger = tokens.find((id) => id >= base.vocabSize);
      if (stranger !== undefined) {
        throw new InvalidRequest(
          `Invalid 'prompt': token ${stranger} is not in this model's vocabulary of ${base.vocabSize}. Encode the text with the model's own tokenizer, or send text.`,
          { code: "invalid_value", param: "prompt" },
        );
      }
      // An empty prompt still needs a token to go on from.
      const [start] = tokenizer.eosTokenIds;
      return {
        options: request,
        tokens: tokens.length === 0 && start !== undefined ? [start] : tokens,
        param: "prompt",
        form: null,
        tools: null,
        prompt: {
          text: typeof prompt === "string" ? prompt : tokenizer.decode(prompt),
          isScored: request.scoresPrompt === true && tokens.length > 0,
        },
      };
    });
  }

  async countTokens(request: ChatPrompt & Pick<GenerationOptions, "model">): Promise<number> {
    const { base, leave } = await this.#enter(request.model);
    try {
      return await countChat(request, base);
    } finally {
      await leave();
    }
  }

  async *#withBase(
    options: GenerationOptions,
    toTask: (base: LoadedBaseModel) => Promise<Task>,
  ): AsyncIterable<CompletionEvent> {
    const { base, leave } = await this.#enter(options.model);
    try {
      yield* this.#run(await toTask(base), base);
    } finally {
      await leave();
    }
  }

  /** The base model stays in memory until the caller leaves. */
  async #enter({ baseModel }: ServedModel): Promise<{ base: LoadedBaseModel; leave: () => Promise<void> }> {
    const slot = this.#baseModel(baseModel.path);
    slot.users += 1;
    const leave = async (): Promise<void> => {
      slot.users -= 1;
      await this.#releaseUnused();
    };
    try {
      await this.#releaseUnused();
      return { base: await slot.loading, leave };
    } catch (error) {
      await leave();
      throw error;
    }
  }

  async *#run(
    { options, tokens, param, form, tools, prompt }: Task,
    base: LoadedBaseModel,
  ): AsyncIterable<CompletionEvent> {
    const { model, n, signal, topLogprobs: topCount } = options;
    const { tokenizer } = base.encoding;
    requireKnownTokens(options.logitBias, base);
    if (tokens.length >= base.context) {
      throw new InvalidRequest(
        `This model's maximum context length is ${base.context} tokens. However, your ${param} resulted in ${tokens.length} tokens. Please reduce the length of the ${param}.`,
        { code: "context_length_exceeded", param },
      );
    }
    const adapter =
      model.adapterPath === null
        ? { ...NO_ADAPTER, key: "" }
        : await base.adapters.get(model.adapterPath).catch((error: unknown) => {
            throw error instanceof UnsupportedModel ? adapterLost(model.id, error) : error;
          });
    if (model.adapterPath !== null) {
      this.#folders.set(model.id, { basePath: model.baseModel.path, folder: model.adapterPath });
    }
    const text = prompt === undefined ? {} : { text: prompt.text };
    const promptEvent = { type: "prompt", promptTokens: tokens.length, ...text } as const;
    const scores =
      prompt?.isScored === true && topCount !== undefined
        ? createPromptScores(tokens, topCount, tokenizer)
        : null;
    if (options.maxTokens === 0 && scores === null) {
      yield promptEvent;
      for (let index = 0; index < n; index++) yield nothingWritten(index);
      return;
    }
    const grammars = form === null ? [] : base.grammars.rules(form, n);
    const events = new EventQueue<CompletionEvent>();
    let open = n;
    let isPromptTold = scores === null;
    const emit = (event: CompletionEvent): void => {
      if (!isPromptTold) events.push({ ...promptEvent, logprobs: scores?.reports() ?? [] });
      isPromptTold = true;
      events.push(event);
      if (event.type === "finish" && --open === 0) events.end();
    };
    const fail = (error: unknown): void => events.fail(error);
    const writers = Array.from({ length: n }, (_, index) =>
      createAnswer({
        options,
        index,
        tokenizer,
        stopIds: base.stopIds,
        maxTokens: Math.min(options.maxTokens ?? Infinity, base.context - tokens.length),
        grammar: grammars[index] ?? null,
        tools,
        emit,
        fail,
      }),
    );
    const readers: Answer[] = [
      {
        sampler: { sample: () => 0 },
        token: () => {
          for (let index = 0; index < n; index++) emit(nothingWritten(index));
          return false;
        },
        fail,
      },
    ];
    // When one of the answers fails, or nobody reads on, the others end too.
    const own = new AbortController();
    const stopWaiting = (): void => events.end();
    try {
      const either = AbortSignal.any([signal, own.signal]);
      base.scheduler.submit({
        tokens,
        adapterKey: adapter.key,
        adapter,
        answers: options.maxTokens === 0 ? readers : writers,
        ...(scores === null ? {} : { onLogits: scores.onLogits }),
        signal: either,
      });
      if (signal.aborted) stopWaiting();
      else signal.addEventListener("abort", stopWaiting, { once: true });
      if (scores === null) yield promptEvent;
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
      const made: BaseModelSlot = { loading: load(path, this.#threads, this.#limits), users: 0 };
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

/** The end of an answer of no tokens: the prompt alone was asked for. */
function nothingWritten(index: number): CompletionEvent {
  return { type: "finish", index, reason: "length", completionTokens: 0 };
}

async function release({ loading }: BaseModelSlot): Promise<void> {
  const base = await loading.catch(() => null);
  await base?.scheduler.close();
  await base?.generator.release();
}

async function load(path: string, threads: number, limits: SchedulerLimits): Promise<LoadedBaseModel> {
  const model = await openBaseModel(path);
  try {
    const { config } = model;
    await nextTurn();
    const tokenizer = createTokenizer(model.tokenizer);
    await nextTurn();
    const encoding = { tokenizer, template: createChatTemplate(model.tokenizer) };
    const context = Math.min(config.maxPositions, MAX_CONTEXT_TOKENS);
    // Reading 135M parameters takes seconds, for which the server would answer nobody; so others have their turn after each tensor.
    const weights = await finishInTurns(loadInSteps(model, context));
    const generator = new Generator({ config, weights, threads });
    const stopIds = new Set([...stopTokenIds(encoding), ...config.eosTokenIds]);
    const { vocabSize } = config;
    return {
      encoding,
      messageTokens: leastMessageTokens(encoding),
      vocabSize,
      stopIds,
      context,
      generator,
      scheduler: new Scheduler(generator, limits),
      adapters: new AdapterPool(config),
      grammars: new GrammarPool({ tokenizer: encoding.tokenizer, vocabSize, stopIds }),
    };
  } finally {
    await model.close();
  }
}

function requireKnownTokens(bias: GenerationOptions["logitBias"], { vocabSize }: LoadedBaseModel): void {
  const stranger = [...(bias?.keys() ?? [])].find((id) => id >= vocabSize);
  if (stranger === undefined) return;
  throw new InvalidRequest(
    `Invalid 'logit_bias': token ${stranger} is not in this model's vocabulary of ${vocabSize}. Its ids are those of the model's own tokenizer, whatever name it is asked for by.`,
    { code: "invalid_value", param: "logit_bias" },
  );
}
