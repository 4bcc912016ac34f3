// A line of any training method's data as the check looks at it: the rows that the model sees of it, and what an epoch of it counts.
import { CHAT_FORMAT, checkLines, PREFERENCE_FORMAT } from "../dataset.ts";
import type { DatasetFormat, DatasetReport, Example, OnBadLine } from "../dataset.ts";
import { trainedPairTokens } from "../encoded-pair.ts";
import { trainedTokens } from "../supervised-example.ts";
import type { EncodeOptions } from "../supervised-example.ts";

export interface CheckedLine {
  /** What is trained on, the wanted answer first. */
  examples: readonly [Example, ...Example[]];
  /** Tokens of an epoch as OpenAI bills them. */
  trainedTokens(encoding: Pick<EncodeOptions, "tokenizer" | "maxLength">): number;
}

/** `checkLines` for the data of a method. */
export async function checkLinesOf(
  method: DatasetFormat<unknown>["method"],
  path: string,
  signal: AbortSignal | undefined,
  onLine: (line: CheckedLine) => void,
  onBadLine?: OnBadLine,
): Promise<DatasetReport> {
  if (method === "supervised") {
    return checkLines(
      path,
      CHAT_FORMAT,
      signal,
      (chat) =>
        onLine({
          examples: [chat],
          trainedTokens: (encoding) => trainedTokens(chat.messages, chat.tools, encoding),
        }),
      onBadLine,
    );
  }
  return checkLines(
    path,
    PREFERENCE_FORMAT,
    signal,
    (pair) => {
      const { line, prompt, preferred, rejected, ...rest } = pair;
      onLine({
        examples: [
          { ...rest, line, messages: [...prompt, preferred] },
          { ...rest, line, messages: [...prompt, rejected] },
        ],
        trainedTokens: (encoding) => trainedPairTokens(pair, encoding),
      });
    },
    onBadLine,
  );
}
