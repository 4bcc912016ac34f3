// A preference example as token ids: the prompt with either answer, of which only the answer counts. It knows no batches and no
// files.
import type { PreferenceExample } from "./preference-example.ts";
import type { BatchPair } from "./preference-batches.ts";
import { encodeExample, trainedTokens } from "./supervised-example.ts";
import type { EncodeOptions, SupervisedExample } from "./supervised-example.ts";

export interface EncodedPair extends BatchPair {
  preferred: SupervisedExample;
  rejected: SupervisedExample;
}

/** Encodes a pair; each side is cut at its end by itself. Throws as encodeExample does. */
export function encodePair(example: PreferenceExample, options: EncodeOptions): EncodedPair {
  const { prompt, tools, preferred, rejected } = example;
  return {
    preferred: encodeExample([...prompt, preferred], tools, options),
    rejected: encodeExample([...prompt, rejected], tools, options),
  };
}

/**
 * Tokens of one pair as an epoch counts them: prompt and both answers, by the formula of `trainedTokens`, and of each side at most
 * what is left of it after the cut. OpenAI documents none for preference data.
 */
export function trainedPairTokens(
  { prompt, tools, preferred, rejected }: PreferenceExample,
  options: Pick<EncodeOptions, "tokenizer" | "maxLength">,
): number {
  const count = (answer: typeof prompt): number => trainedTokens([...prompt, ...answer], tools, options);
  return count([preferred]) + count([rejected]) - count([]);
}
