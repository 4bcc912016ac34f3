// The lines of a method's data as what it trains on, or what is wrong with one. It knows no files.
import { sharedBeginning } from "../data/beginnings.ts";
import { CHAT_FORMAT, PREFERENCE_FORMAT } from "../data/dataset.ts";
import type { DatasetFormat } from "../data/dataset.ts";
import { encodePair, trainedPairTokens } from "../data/encoded-pair.ts";
import type { EncodedPair } from "../data/encoded-pair.ts";
import { computedTokens } from "../data/preference-batches.ts";
import type { PreferenceExample } from "../data/preference-example.ts";
import { encodeExample, trainedTokens } from "../data/supervised-example.ts";
import type { EncodeOptions, SupervisedExample } from "../data/supervised-example.ts";
import type { TrainingExample } from "../data/training-example.ts";
import { InvalidRequest } from "../errors.ts";

/** How the lines of a method's data become what it trains on. */
export interface LineEncoding<Content, Example> {
  format: DatasetFormat<Content>;
  /** Throws InvalidRequest where the template cannot show the line. */
  encode(line: Content, options: EncodeOptions): Example;
  /** What is wrong with the encoded line, in a clause; null: nothing. */
  fault(example: Example, maxLength: number): string | null;
  truncatedTokens(example: Example): number;
  /** Tokens of a pass that holds this example alone. */
  passTokens(example: Example): number;
  /** Leading tokens that two examples in a pass would share, beside what each shares within itself. */
  sharedTokens(one: Example, other: Example): number;
  /** No examples cut at so many tokens have more of either. */
  mostTokens(maxLength: number): { passTokens: number; sharedTokens: number };
  trainedTokens(line: Content, options: EncodeOptions): number;
}

export const CHATS: LineEncoding<TrainingExample, SupervisedExample> = {
  format: CHAT_FORMAT,
  encode: ({ messages, tools }, options) => encodeExample(messages, tools, options),
  fault: (example, maxLength) => {
    return example.supervisedTokens > 0 ? null : cutAway(example, maxLength, "the answer it should teach");
  },
  truncatedTokens: (example) => example.truncatedTokens,
  passTokens: ({ tokens }) => tokens.length,
  sharedTokens: (one, other) => sharedBeginning([one, other]),
  mostTokens: (maxLength) => ({ passTokens: maxLength, sharedTokens: maxLength }),
  trainedTokens: ({ messages, tools }, options) => trainedTokens(messages, tools, options),
};

export const PAIRS: LineEncoding<PreferenceExample, EncodedPair> = {
  format: PREFERENCE_FORMAT,
  encode: encodePair,
  fault: ({ preferred, rejected }, maxLength) => {
    const empty = [preferred, rejected].find((side) => side.supervisedTokens === 0);
    if (empty !== undefined) return cutAway(empty, maxLength, "its answers");
    const [one, other] = [preferred.tokens, rejected.tokens];
    if (one.length !== other.length || one.some((token, i) => token !== other[i])) return null;
    return `has two outputs that are the same in the ${maxLength} tokens that are kept; shorten the prompt or leave it out`;
  },
  truncatedTokens: ({ preferred, rejected }) => preferred.truncatedTokens + rejected.truncatedTokens,
  passTokens: (pair) => computedTokens([pair]),
  // Passes of several pairs stay within the tokens of a pass, shared ones included.
  sharedTokens: () => 0,
  mostTokens: (maxLength) => ({ passTokens: 2 * maxLength, sharedTokens: 0 }),
  trainedTokens: trainedPairTokens,
};

function cutAway({ tokens, truncatedTokens }: SupervisedExample, maxLength: number, what: string): string {
  const length = tokens.length + truncatedTokens;
  return `has ${length} tokens and is cut after ${maxLength}, before ${what}; shorten it or leave it out`;
}

/** What is wrong with the line, in a clause, where it cannot be trained on. */
export function encodeLine<Content, Example>(
  line: Content,
  encoding: LineEncoding<Content, Example>,
  options: EncodeOptions,
): { example: Example } | string {
  try {
    const example = encoding.encode(line, options);
    return encoding.fault(example, options.maxLength) ?? { example };
  } catch (error) {
    if (!(error instanceof InvalidRequest)) throw error;
    return `cannot be trained on: ${error.message.replace(/\.$/, "")}`;
  }
}
