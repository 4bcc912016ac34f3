// What the check makes of a line of each training method's data: the rows that the model sees of it, and the rules that hold for
// this method alone.
import type { DatasetFormat, DatasetParam, Example, Line } from "../dataset.ts";
import { CHAT_FORMAT, PREFERENCE_FORMAT } from "../dataset.ts";
import { trainedPairTokens } from "../encoded-pair.ts";
import type { PreferenceExample } from "../preference-example.ts";
import { trainedTokens } from "../supervised-example.ts";
import type { TrainingExample } from "../training-example.ts";
import { PreferredLengths } from "./preferred-lengths.ts";
import type { Finding } from "./report.ts";
import type { RowEncoding } from "./token-facts.ts";

export interface CheckedFormat<E> {
  format: DatasetFormat<E>;
  /** What is trained on, the wanted answer first. */
  examples(line: Line<E>): readonly [Example, ...Example[]];
  /** Tokens of an epoch as OpenAI bills them. */
  trainedTokens(line: Line<E>, encoding: RowEncoding): number;
  /** A rule of this method's own. */
  rule(file: DatasetParam): { add(line: Line<E>): void; findings(): Finding[] } | null;
}

const SUPERVISED: CheckedFormat<TrainingExample> = {
  format: CHAT_FORMAT,
  examples: (line) => [line],
  trainedTokens: ({ messages, tools }, encoding) => trainedTokens(messages, tools, encoding),
  rule: () => null,
};

const PREFERENCE: CheckedFormat<PreferenceExample> = {
  format: PREFERENCE_FORMAT,
  examples: ({ line, prompt, preferred, rejected, ...rest }) => [
    { ...rest, line, messages: [...prompt, preferred] },
    { ...rest, line, messages: [...prompt, rejected] },
  ],
  trainedTokens: trainedPairTokens,
  rule: (file) => new PreferredLengths(file),
};

export const CHECKED_FORMATS = { supervised: SUPERVISED, dpo: PREFERENCE } as const;
