// An old model behind the fake: it answers by the prompt, says what it used, and keeps count of what OpenAI would charge.
import type { ServerResponse } from "node:http";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { OPENAI_ANSWER_PRICES } from "../../src/wire/openai-prices.ts";
import { sendError, sendJson, type Asked, type Fault } from "./fake-openai.ts";

interface Body {
  model: string;
  messages: { role: string; content: string }[];
  max_completion_tokens: number;
}

export interface OldModelOptions {
  answer?: (prompt: string) => string;
  /** Milliseconds until the answer. */
  slowMs?: number;
  /** In place of the answer of this prompt's nth request, from 1; null: answer. */
  fault?: (prompt: string, nth: number) => Fault | null;
  /** Whether every answer is as dear as it may be: each byte a token, and all the tokens that were allowed. */
  dear?: boolean;
}

export function oldModel(model: string, options: OldModelOptions = {}) {
  const seen = new Map<string, number>();
  const price = OPENAI_ANSWER_PRICES["gpt-4o-mini-2024-07-18"] as { input: number; output: number };
  const state = {
    /** What OpenAI charges, in US dollars: also for answers that never arrived. */
    chargedUsd: 0,
    inFlight: 0,
    mostInFlight: 0,
    /** Requests by prompt. */
    seen,
    chat: (body: Record<string, unknown>, _asked: Asked): Fault => {
      const { model: wanted, messages, max_completion_tokens: most } = body as unknown as Body;
      if (wanted !== model)
        return sendError(
          404,
          `The model '${wanted}' does not exist or you do not have access to it.`,
          "model_not_found",
        );
      const prompt = messages.at(-1)?.content ?? "";
      const nth = (seen.get(prompt) ?? 0) + 1;
      seen.set(prompt, nth);
      const fault = options.fault?.(prompt, nth) ?? null;
      state.inFlight += 1;
      state.mostInFlight = Math.max(state.mostInFlight, state.inFlight);
      return (response: ServerResponse, asked) => {
        setTimeout(() => {
          state.inFlight -= 1;
          if (fault !== null) return fault(response, asked);
          const content = options.answer?.(prompt) ?? `Answer to ${prompt}`;
          const usage =
            options.dear === true
              ? { prompt_tokens: Buffer.byteLength(JSON.stringify(messages)), completion_tokens: most }
              : { prompt_tokens: 20, completion_tokens: 5 };
          state.chargedUsd +=
            (usage.prompt_tokens * price.input + usage.completion_tokens * price.output) / 1e6;
          sendJson(200, {
            id: `chatcmpl-${nth}`,
            object: "chat.completion",
            created: 1,
            model,
            choices: [
              {
                index: 0,
                message: { role: "assistant", content, refusal: null, annotations: [] },
                logprobs: null,
                finish_reason: "stop",
              },
            ],
            usage: { ...usage, total_tokens: usage.prompt_tokens + usage.completion_tokens },
          })(response);
        }, options.slowMs ?? 0);
      };
    },
  };
  return state;
}

/** A file with these prompts, a line each. */
export function promptsFile(folder: string, lines: readonly (object | string)[]): string {
  const path = join(folder, "prompts.jsonl");
  const text = lines.map((line) => `${typeof line === "string" ? line : JSON.stringify(line)}\n`).join("");
  writeFileSync(path, text);
  return path;
}

export const questions = (count: number): { prompt: string }[] =>
  Array.from({ length: count }, (_, i) => ({ prompt: `Question ${i}` }));
