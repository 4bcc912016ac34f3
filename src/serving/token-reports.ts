// Scores of tokens as they are reported, with text and bytes: of an answer's tokens, and of a prompt's own.
import type { Tokenizer } from "../data/tokenizer.ts";
import type { PromptTokenReport, TokenLogprob, TokenReport } from "./engine.ts";
import type { OnPromptLogits } from "./generator.ts";
import { scoreToken } from "./log-probabilities.ts";
import type { ScoredToken } from "./log-probabilities.ts";

export function toReport({ top, token, logprob }: ScoredToken, tokenizer: Tokenizer): TokenReport {
  const shown = (id: number, value: number): TokenLogprob => ({ ...textOf(id, tokenizer), logprob: value });
  return { ...shown(token, logprob), top: top.map((each) => shown(each.token, each.logprob)) };
}

function textOf(token: number, tokenizer: Tokenizer): Pick<TokenLogprob, "token" | "bytes"> {
  const bytes = tokenizer.tokenBytes(token);
  return { token: tokenText(bytes), bytes: [...bytes] };
}

function tokenText(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return `bytes:${Array.from(bytes, (byte) => `\\x${byte.toString(16).padStart(2, "0")}`).join("")}`;
  }
}

/** What a model thinks of a prompt's tokens, each behind those before it; of the first nothing is known. */
export interface PromptScores {
  onLogits: OnPromptLogits;
  /** All tokens of the prompt, once it was read. */
  reports(): PromptTokenReport[];
}

export function createPromptScores(
  tokens: readonly number[],
  topCount: number,
  tokenizer: Tokenizer,
): PromptScores {
  const scores: (ScoredToken | undefined)[] = [];
  return {
    onLogits(place, logits) {
      const next = tokens[place + 1];
      // A prompt that is read again says the same again.
      if (next !== undefined) scores[place + 1] = scoreToken(logits, next, topCount);
    },
    reports: () =>
      tokens.map((token, place) => {
        const score = scores[place];
        return score === undefined
          ? { ...textOf(token, tokenizer), logprob: null, top: null }
          : toReport(score, tokenizer);
      }),
  };
}
