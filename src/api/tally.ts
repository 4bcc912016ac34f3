// What a request's answers cost in tokens, and whether every one of them really ended: an engine that was stopped just falls
// silent. The same for chat, responses and legacy completions.
import { Unavailable } from "../errors.ts";
import type { CompletionEvent } from "../serving/engine.ts";

export class Tally {
  promptTokens = 0;
  completionTokens = 0;
  #pieces = 0;
  #open: number;

  /** `answers`: to all prompts of the request. */
  constructor(answers: number) {
    this.#open = answers;
  }

  add(event: CompletionEvent): void {
    if (event.type === "prompt") this.promptTokens += event.promptTokens;
    if (event.type === "text-delta") this.#pieces += 1;
    if (event.type === "finish") {
      this.completionTokens += event.completionTokens;
      this.#open -= 1;
    }
  }

  /** Of answers that broke off, each piece of text counts as a token: they are that or more. */
  spentTokens(): number {
    const written = this.#open > 0 ? Math.max(this.completionTokens, this.#pieces) : this.completionTokens;
    return this.promptTokens + written;
  }

  /** Throws Unavailable unless every answer has ended. */
  requireEnd(): void {
    if (this.#open <= 0) return;
    throw new Unavailable("The answer was cut off because the server is stopping. Send the request again.");
  }
}
