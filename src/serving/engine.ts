// What the API needs from whatever answers chat requests. The embedded engine implements it; tests use a fake.
import type { ChatMessage, ToolDefinition } from "../data/chat-message.ts";

/** A model as serving sees it: a base model on disk, with or without an adapter. */
export interface ServedModel {
  /** The name clients use. */
  id: string;
  baseModel: { id: string; path: string };
  /** A PEFT adapter folder, or null for the base model itself. */
  adapterPath: string | null;
}

export interface CompletionRequest {
  model: ServedModel;
  messages: readonly ChatMessage[];
  tools?: readonly ToolDefinition[];
  /** Upper bound of new tokens; null: as many as the context holds. */
  maxTokens: number | null;
  temperature: number;
  topP: number;
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

export const FINISH_REASONS = ["stop", "length"] as const;
export type FinishReason = (typeof FINISH_REASONS)[number];

/** Order: one prompt event, then deltas and one finish per index, interleaved between indexes. */
export type CompletionEvent =
  | { type: "prompt"; promptTokens: number }
  | { type: "text-delta"; index: number; text: string }
  | { type: "finish"; index: number; reason: FinishReason; completionTokens: number };

export interface ChatEngine {
  /**
   * Answers a request. Throws InvalidRequest (code "context_length_exceeded", param "messages") when the prompt does not
   * fit, UnsupportedModel when the model cannot be loaded; both before the first event. Ends early when the signal aborts.
   */
  complete(request: CompletionRequest): AsyncIterable<CompletionEvent>;
  /** Lets go of a model's adapter (it was deleted); requests in flight finish. */
  forget(modelId: string): Promise<void>;
  close(): Promise<void>;
}
