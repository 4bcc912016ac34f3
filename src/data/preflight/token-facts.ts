// What the model will really see: each row through the model's own template and tokenizer, cut as training cuts it. Uses
// the encoder of training itself, so that it cannot say something else.
import { sharedBeginning } from "../beginnings.ts";
import type { DatasetParam, Example } from "../dataset.ts";
import type { ChatEncoding } from "../prompt.ts";
import { stopTokenIds } from "../prompt.ts";
import { encodeExample } from "../supervised-example.ts";
import type { SupervisedExample } from "../supervised-example.ts";
import { createTextStream } from "../tokenizer.ts";
import { InvalidRequest } from "../../errors.ts";
import type { CheckedLine } from "./checked-line.ts";
import { distributionOf, Places, rows } from "./report.ts";
import type { FaultFound, Finding, TokenFacts } from "./report.ts";
import { excerpt } from "./row.ts";

export interface RowEncoding extends ChatEncoding {
  /** Tokens at which training cuts a row. */
  maxLength: number;
}

/** Longer than any row: shows what a cut takes away. */
const NO_LIMIT = Number.MAX_SAFE_INTEGER;

export class TokenCount {
  readonly #file: DatasetParam;
  readonly #encoding: RowEncoding;
  readonly #stops: ReadonlySet<number>;
  readonly #tokens: number[] = [];
  readonly #supervised: number[] = [];
  readonly #truncated = new Places();
  #truncatedTokens = 0;
  #trainedTokens = 0;
  #endTokenRows = 0;
  #longest = { line: 0, tokens: 0 };
  #longestPass = 0;
  #sharedTokens = 0;
  #last: SupervisedExample | null = null;
  /** Rows that teach nothing or cannot be shown; a job is refused for them. */
  readonly faults: FaultFound[] = [];

  constructor(file: DatasetParam, encoding: RowEncoding) {
    this.#file = file;
    this.#encoding = encoding;
    this.#stops = new Set(stopTokenIds(encoding));
  }

  /** Throws UnsupportedModel where the template ends no turn. */
  add(line: CheckedLine): void {
    const rows = line.examples.flatMap((example) => this.#addExample(example) ?? []);
    const [first] = rows;
    if (first === undefined || rows.length < line.examples.length) return;
    this.#trainedTokens += line.trainedTokens(this.#encoding);
    // The rows of a pair are in one pass, which computes what they share once.
    const all = sum(rows.map(({ tokens }) => tokens.length));
    this.#longestPass = Math.max(this.#longestPass, all - (rows.length - 1) * sharedBeginning(rows));
    if (this.#last !== null)
      this.#sharedTokens = Math.max(this.#sharedTokens, sharedBeginning([this.#last, first]));
    this.#last = first;
  }

  /** Null where it cannot be trained on. */
  #addExample(example: Example): SupervisedExample | null {
    const { messages, tools, line } = example;
    const { maxLength } = this.#encoding;
    let encoded: SupervisedExample;
    try {
      encoded = encodeExample(messages, tools, this.#encoding);
    } catch (error) {
      if (!(error instanceof InvalidRequest)) throw error;
      this.#fault(line, error.message, null, "leave the row out, or use another base model");
      return null;
    }
    const length = encoded.tokens.length + encoded.truncatedTokens;
    if (length > this.#longest.tokens) this.#longest = { line, tokens: length };
    if (encoded.supervisedTokens === 0) {
      this.#fault(
        line,
        `Line ${line} has ${length} tokens and is cut after ${maxLength}, before the answer it should teach.`,
        `an answer within ${maxLength} tokens`,
        "shorten what stands before the answer, or leave the row out",
      );
      return null;
    }
    this.#tokens.push(encoded.tokens.length);
    this.#supervised.push(encoded.supervisedTokens);
    const last = encoded.supervised.lastIndexOf(1);
    if (this.#stops.has(encoded.tokens[last] ?? -1)) this.#endTokenRows += 1;
    if (encoded.truncatedTokens === 0) return encoded;
    this.#truncatedTokens += encoded.truncatedTokens;
    const whole = encodeExample(messages, tools, { ...this.#encoding, maxLength: NO_LIMIT });
    const lost = this.#encoding.tokenizer.decode(whole.tokens.subarray(maxLength), {
      skipSpecialTokens: true,
    });
    this.#truncated.add(line, `${encoded.truncatedTokens} of ${length} tokens, from "${excerpt(lost, 40)}"`);
    return encoded;
  }

  #fault(line: number, text: string, expected: string | null, fix: string): void {
    const found = text.replace(/^Line \d+ has /, "");
    this.faults.push({ file: this.#file, line, message: null, text, found, expected, fix });
  }

  facts(): TokenFacts | null {
    const tokensPerRow = distributionOf(this.#tokens);
    const supervisedPerRow = distributionOf(this.#supervised);
    if (tokensPerRow === null || supervisedPerRow === null) return null;
    return {
      tokensPerRow,
      supervisedPerRow,
      tokens: sum(this.#tokens),
      supervisedTokens: sum(this.#supervised),
      trainedTokens: this.#trainedTokens,
      maxLength: this.#encoding.maxLength,
      truncatedRows: this.#truncated.count,
      truncatedTokens: this.#truncatedTokens,
      endTokenRows: this.#endTokenRows,
      longest: this.#longest,
      longestPass: this.#longestPass,
      sharedTokens: this.#sharedTokens,
    };
  }

  findings(): Finding[] {
    const { count, places } = this.#truncated;
    if (count === 0) return [];
    return [
      {
        kind: "truncated_rows",
        severity: "warning",
        file: this.#file,
        message: `${rows(count)} ${count === 1 ? "is" : "are"} longer than ${this.#encoding.maxLength} tokens and cut at the end, ${this.#truncatedTokens.toLocaleString("en-US")} tokens in all; from a cut answer the model does not learn to stop`,
        fix: "Shorten these rows or split them.",
        count,
        places,
      },
    ];
  }
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

/** A token of a row as it is shown: several tokens that make up one character are shown as the last of them. */
export interface ShownToken {
  text: string;
  /** Whether the loss counts it. */
  supervised: boolean;
}

export interface ShownRow {
  tokens: ShownToken[];
  tokenCount: number;
  supervisedTokens: number;
  /** Cut off behind the last shown one. */
  truncatedTokens: number;
}

/** One row as the model sees it. Throws InvalidRequest where the template cannot show it. */
export function showRow({ messages, tools }: Example, encoding: RowEncoding): ShownRow {
  const encoded = encodeExample(messages, tools, encoding);
  const stream = createTextStream(encoding.tokenizer, {});
  const tokens: ShownToken[] = [];
  for (const [i, id] of encoded.tokens.entries()) {
    const text = stream.push(id);
    if (text !== "") tokens.push({ text, supervised: encoded.supervised[i] === 1 });
  }
  const rest = stream.flush();
  if (rest !== "") tokens.push({ text: rest, supervised: encoded.supervised.at(-1) === 1 });
  return {
    tokens,
    tokenCount: encoded.tokens.length,
    supervisedTokens: encoded.supervisedTokens,
    truncatedTokens: encoded.truncatedTokens,
  };
}
