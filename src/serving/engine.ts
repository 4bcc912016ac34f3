// What the API needs from whatever answers chat requests. The embedded engine implements it; tests use a fake.
import type { ChatMessage, ToolDefinition } from "../data/chat-message.ts";
import type { JsonForm } from "./answer-form.ts";

/** A model as serving sees it: a base model on disk, with or without an adapter. */
export interface ServedModel {
  /** The name clients use. */
  id: string;
  baseModel: { id: string; path: string };
  /** A PEFT adapter folder, or null for the base model itself. */
  adapterPath: string | null;
}

/** How answers are drawn; the same for chat and for plain text. */
export interface GenerationOptions {
  model: ServedModel;
  /** Upper bound of new tokens; null: as many as the context holds. 0, for plain text: the prompt is read and nothing is written. */
  maxTokens: number | null;
  temperature: number;
  topP: number;
  /** What each earlier occurrence of a token in the answer takes off its logit, and what the first one does. */
  frequencyPenalty?: number;
  presencePenalty?: number;
  /** Added to the logits of token ids. */
  logitBias?: ReadonlyMap<number, number>;
  /** Tokens are reported with their log-probability and those of so many most likely ones; left out: not at all. */
  topLogprobs?: number;
  /**
   * The same request with the same seed draws the same random numbers, so as a rule it gives the same text. A best effort:
   * answers that run beside it share its matrix products, whose sums may then round to another token. Null: random.
   */
  seed: number | null;
  /** Generation ends before any of these texts; they are not part of the answer. */
  stop: readonly string[];
  /** Number of independent answers. */
  n: number;
  signal: AbortSignal;
}

/** A conversation to answer. */
export interface ChatPrompt {
  messages: readonly ChatMessage[];
  /** Functions the answer may call; with them, calls come as events of their own. */
  tools?: readonly ToolDefinition[];
  /** What the client's request calls the conversation, for errors; left out: "messages". */
  promptParam?: "messages" | "input";
}

export interface CompletionRequest extends GenerationOptions, ChatPrompt {
  /** Left out: the answer may call. "required": it calls at least one; a name: that one. */
  toolChoice?: "required" | { name: string };
  /** Names of the tools whose arguments are held to their schema; those of the others are any JSON object. */
  constrainedTools?: ReadonlySet<string>;
  /** False: at most one call. */
  parallelToolCalls?: boolean;
  /** What an answer is held to, unless it calls a tool; left out: any text. */
  form?: JsonForm;
}

/** Plain text to go on from, without a chat template. */
export interface TextRequest extends GenerationOptions {
  /** With topLogprobs: the prompt's own tokens are reported too. */
  scoresPrompt?: boolean;
  /** Token ids, or a text that is encoded as it stands, special tokens included. */
  prompt: string | readonly number[];
}

export const FINISH_REASONS = ["stop", "length", "tool_calls"] as const;
export type FinishReason = (typeof FINISH_REASONS)[number];

export interface TokenLogprob {
  /** Text; "bytes:\\xe2\\x82" where the bytes alone are no whole characters. */
  token: string;
  bytes: number[];
  /** Natural logarithm, under the model's own distribution at temperature 1. */
  logprob: number;
}

export interface TokenReport extends TokenLogprob {
  /** The most likely tokens at this place, best first. */
  top: TokenLogprob[];
}

/** Of the first token of a text nothing can be said. */
export type PromptTokenReport =
  TokenReport | (Pick<TokenLogprob, "token" | "bytes"> & { logprob: null; top: null });

/** Order: one prompt event, then deltas and one finish per index, interleaved between indexes. */
export type CompletionEvent =
  | {
      type: "prompt";
      promptTokens: number;
      /** Of plain text only: the prompt as text. */
      text?: string;
      /** Only where they were asked for. */
      logprobs?: readonly PromptTokenReport[];
    }
  /** `logprobs` only where they were asked for: the tokens of this text, and of none where it is "". */
  | { type: "text-delta"; index: number; text: string; logprobs?: readonly TokenReport[] }
  /** One whole call; `call` counts from 0 within the answer. */
  | { type: "tool-call"; index: number; call: number; name: string; arguments: string }
  | { type: "finish"; index: number; reason: FinishReason; completionTokens: number };

export interface ChatEngine {
  /**
   * Answers a request. Throws InvalidRequest (code "context_length_exceeded", param `promptParam`) when the prompt does not
   * fit, UnsupportedModel when the base model cannot be loaded, TunesmithError (code "unsupported_adapter") when the adapter
   * cannot; all before the first event. Ends early when the signal aborts.
   */
  complete(request: CompletionRequest): AsyncIterable<CompletionEvent>;
  /** As complete, for plain text; "context_length_exceeded" has the param "prompt". Each answer is what follows the prompt. */
  completeText(request: TextRequest): AsyncIterable<CompletionEvent>;
  /** Tokens that `complete` would read as the prompt, of any number; throws as it does, and for texts that could never fit. */
  countTokens(request: ChatPrompt & Pick<GenerationOptions, "model">): Promise<number>;
  /** Lets go of a model's adapter (it was deleted); requests in flight finish. */
  forget(modelId: string): Promise<void>;
  close(): Promise<void>;
}
