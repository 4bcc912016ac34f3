// Training data from a JSONL file, supervised chats or preference pairs: streamed line by line, checked whole, every fault
// reported at once. It knows no tokenizer, so that it can run before any model is loaded.
import { isUtf8 } from "node:buffer";
import { setImmediate as nextTurn } from "node:timers/promises";
import { Cancelled, DatasetError } from "../errors.ts";
import { finishInTurns } from "../steps.ts";
import { MAX_KEPT_FAULTS } from "./fault.ts";
import type { Fault } from "./fault.ts";
import { fileLines } from "./file-lines.ts";
import { parseJsonInSteps } from "./json-text.ts";
import type { JsonFault } from "./json-text.ts";
import { foreignToPreference, readPreferenceExample } from "./preference-example.ts";
import type { PreferenceExample } from "./preference-example.ts";
import { foreignFormat, readTrainingExample } from "./training-example.ts";
import type { ForeignFormat, TrainingExample } from "./training-example.ts";

/** What was read from one line of a file; `line` is 1-based. */
export type Line<E> = E & { line: number };
export type Example = Line<TrainingExample>;

/** What each line of a file holds. */
export interface DatasetFormat<E> {
  /** The training method that takes it, by its name in requests. */
  method: "supervised" | "dpo";
  /** Either faults is empty or example is null. */
  read(value: unknown): { example: E | null; faults: Fault[] };
  /** Another format that the line is in. */
  foreign(value: unknown): ForeignFormat | null;
}

export const CHAT_FORMAT: DatasetFormat<TrainingExample> = {
  method: "supervised",
  read: readTrainingExample,
  foreign: foreignFormat,
};

export const PREFERENCE_FORMAT: DatasetFormat<PreferenceExample> = {
  method: "dpo",
  read: readPreferenceExample,
  foreign: foreignToPreference,
};

/** The format that each method's data has. */
export const DATASET_FORMATS = { supervised: CHAT_FORMAT, dpo: PREFERENCE_FORMAT } as const;

export type DatasetParam = "training_file" | "validation_file";

export interface ReadDatasetOptions {
  /** Which file of the job this is: decides code, param, wording and least number of examples. */
  param: DatasetParam;
  signal?: AbortSignal;
}

export interface Dataset<E> {
  /** All in memory: a file has at most 512 MB (the upload limit), and its examples take up to a few times that. */
  examples: Line<E>[];
  /** Of the file. */
  bytes: number;
}

/**
 * Bytes of one line. The longest example any model trains on (131,072 tokens) is well below 1 MB of text and below 6 MB
 * where every character is written \uXXXX; the limit keeps a file without line feeds from filling the memory.
 */
export const MAX_LINE_BYTES = 8 * 1024 * 1024;

/** Bad lines a message names one by one; more would only hide that they have one cause. */
export const MAX_NAMED_LINES = 20;

/** Faults of one line a message names. */
const MAX_FAULTS_PER_LINE = 3;

/** Different pieces of advice behind them. */
const MAX_ADVICE = 5;

/** OpenAI's least number of training examples; validation can do with one. */
export const MIN_EXAMPLES: Readonly<Record<DatasetParam, number>> = { training_file: 10, validation_file: 1 };

/** What is wrong with a file, by line. */
export interface BadLines {
  /** Lines with faults, in file order, at most MAX_NAMED_LINES. */
  badLines: { line: number; faults: Fault[] }[];
  badLineCount: number;
}

/** What a check of a file found, good or bad. */
export interface DatasetReport extends BadLines {
  /** Good lines. */
  exampleCount: number;
  /** Of the file. */
  bytes: number;
  /** Set when every line is in one other format. */
  foreignFormat: ForeignFormat | null;
  /** The method whose data was expected. */
  method: DatasetFormat<unknown>["method"];
}

/** Reads a file of supervised chats whole. Throws DatasetError naming every bad line, Unavailable, Cancelled. */
export async function readDataset(
  path: string,
  options: ReadDatasetOptions,
): Promise<Dataset<TrainingExample>> {
  return readExamples(path, CHAT_FORMAT, options);
}

/** The same of a file in any format. */
export async function readExamples<E>(
  path: string,
  format: DatasetFormat<E>,
  options: ReadDatasetOptions,
): Promise<Dataset<E>> {
  const examples: Line<E>[] = [];
  const report = await checkLines(path, format, options.signal, (example) => examples.push(example));
  judge(report, options.param);
  return { examples, bytes: report.bytes };
}

/** Judges a file of a method's data as readExamples does, but keeps no example: a line at a time is in memory. */
export async function countExamples(
  path: string,
  { param, signal, method = "supervised" }: ReadDatasetOptions & { method?: DatasetReport["method"] },
): Promise<number> {
  const report = await checkLines<unknown>(path, DATASET_FORMATS[method], signal);
  judge(report, param);
  return report.exampleCount;
}

function judge(report: DatasetReport, param: DatasetParam): void {
  const error = datasetError(report, param);
  if (error !== null) throw error;
}

/** Work on lines between two turns of the event loop, so that a server goes on answering. */
const SLICE_MS = 10;

/** Takes a line's faults; of blank lines in a row, which can be a hundred million, the last one too. */
export type OnBadLine = (line: number, faults: readonly Fault[], lastLine: number) => void;

/**
 * Checks a file whole without judging it; good lines go to `onExample`, bad ones to `onBadLine`. Throws Unavailable,
 * Cancelled.
 */
export async function checkLines<E>(
  path: string,
  format: DatasetFormat<E>,
  signal?: AbortSignal,
  onExample: (example: Line<E>) => void = () => undefined,
  onBadLine: OnBadLine = () => undefined,
): Promise<DatasetReport> {
  const report: DatasetReport = {
    exampleCount: 0,
    bytes: 0,
    badLines: [],
    badLineCount: 0,
    foreignFormat: null,
    method: format.method,
  };
  const addBad = (line: number, faults: Fault[], lastLine = line) => {
    addBadLine(report, line, faults, lastLine);
    onBadLine(line, faults, lastLine);
  };
  let sliceEnd = performance.now() + SLICE_MS;
  const giveWay = async () => {
    if (performance.now() <= sliceEnd) return;
    await nextTurn();
    if (signal?.aborted) throw new Cancelled();
    sliceEnd = performance.now() + SLICE_MS;
  };
  const formats = new Set<ForeignFormat | null>();
  /** Blank lines are fine at the end of a file, so they count only once something follows. */
  let blankFrom: number | null = null;
  const lines = fileLines(path, { maxLineBytes: MAX_LINE_BYTES, joinsEmptyLines: true, signal });
  for await (const { number, bytes, endsAt } of lines) {
    report.bytes = endsAt;
    await giveWay();
    const text = bytes === null ? null : decodeUtf8(bytes);
    if (text?.trim() === "") {
      blankFrom ??= number;
      continue;
    }
    if (blankFrom !== null) addBad(blankFrom, [BLANK_LINE], number - 1);
    blankFrom = null;

    const parsed = text === null ? null : await finishInTurns(parseJsonInSteps(text), giveWay);
    formats.add(parsed?.ok ? format.foreign(parsed.value) : null);
    if (bytes === null) addBad(number, [TOO_LONG]);
    else if (parsed === null) addBad(number, [encodingFault(number, bytes)]);
    else if (!parsed.ok) addBad(number, [jsonFault(parsed)]);
    else {
      const { example, faults } = format.read(parsed.value);
      if (example === null) addBad(number, faults);
      else {
        report.exampleCount++;
        onExample({ ...example, line: number });
      }
    }
  }
  const [only] = formats;
  if (formats.size === 1) report.foreignFormat = only ?? null;
  return report;
}

/**
 * Counts a line with faults, or all lines up to `lastLine`, and keeps what is wrong while there are few. Lines come in file order.
 */
export function addBadLine(found: BadLines, line: number, faults: Fault[], lastLine = line): void {
  found.badLineCount += lastLine - line + 1;
  for (let next = line; next <= lastLine && found.badLines.length < MAX_NAMED_LINES; next++)
    found.badLines.push({ line: next, faults });
}

/** The error for lines in the right format that still cannot be trained on. */
export function unusableLines(found: BadLines, param: DatasetParam): DatasetError {
  const { title, invalid } = FILES[param];
  const lines = found.badLines.map(({ line }) => line);
  return new DatasetError(`The job failed due to an invalid ${title} file.${listFaults(found)}`, {
    code: invalid,
    param,
    lines,
  });
}

/** What stands in the way of using the file, in OpenAI's words where it has some; null when nothing does. */
export function datasetError(report: DatasetReport, param: DatasetParam): DatasetError | null {
  const { title, invalid } = FILES[param];
  const lines = report.badLines.map(({ line }) => line);
  const intro = `The job failed due to an invalid ${title} file. Invalid file format.`;
  if (report.foreignFormat !== null) {
    return new DatasetError(`${intro} ${foreignText(report.foreignFormat, report.method)}`, {
      code: invalid,
      param,
      lines,
    });
  }
  const [first] = report.badLines;
  if (first !== undefined) {
    // OpenAI has a code of its own for extra and missing members; a file with several kinds gets the first one's.
    const isShape = first.faults[0]?.kind === "shape";
    const start = isShape
      ? `The job failed due to a file format error in the ${title} file. Invalid file format.`
      : intro;
    return new DatasetError(`${start}${listFaults(report)}`, {
      code: isShape ? "invalid_file_format" : invalid,
      param,
      lines,
    });
  }
  const count = report.exampleCount;
  const least = MIN_EXAMPLES[param];
  if (count >= least) return null;
  const name = `${title[0]?.toUpperCase()}${title.slice(1)}`;
  return new DatasetError(
    `${name} file has ${count} example(s), but must have at least ${least} ${least === 1 ? "example" : "examples"}. Add at least ${least - count} more, one a line.`,
    { code: "invalid_n_examples", param },
  );
}

const FILES = {
  training_file: { title: "training", invalid: "invalid_training_file" },
  validation_file: { title: "validation", invalid: "invalid_validation_file" },
} as const;

/** What OpenAI calls the formats. */
const FORMAT_NAMES = { chat: "fine-tune-chat", preference: "fine-tune-preference" } as const;

const WANTED = {
  supervised: 'Give it chat messages: one {"messages": [...]} a line.',
  dpo: 'Give it preference pairs: one {"input": {"messages": [...]}, "preferred_output": [...], "non_preferred_output": [...]} a line, or create the job with method supervised.',
} as const;

function foreignText(found: ForeignFormat, method: DatasetReport["method"]): string {
  if (found !== "completion") {
    return `The input file is in the ${FORMAT_NAMES[found]} format, but the specified fine-tuning job is using '${method}' as the training method. ${WANTED[method]}`;
  }
  const pairs =
    "The input file has prompt/completion pairs, which only legacy completion models take; expected";
  return method === "dpo"
    ? `${pairs} preference pairs. ${WANTED.dpo}`
    : `${pairs} chat messages. Write each pair as {"messages": [{"role": "user", "content": <prompt>}, {"role": "assistant", "content": <completion>}]}.`;
}

/** One bad line: a sentence. Several: a list, and how many more there are. Behind them what to do, once for all lines. */
function listFaults({ badLines, badLineCount }: BadLines): string {
  const lines = badLines.map(describeLine);
  const advice = [...new Set(badLines.flatMap(({ faults }) => named(faults).flatMap(adviceOn)))];
  const todo = advice.slice(0, MAX_ADVICE).join(" ");
  if (badLineCount === 1) return ` ${lines.join("")}${todo === "" ? "" : ` ${todo}`}`;
  const rest = badLineCount - lines.length;
  return ` ${badLineCount} lines are wrong:\n${lines.join("\n")}${rest === 0 ? "" : `\n… and ${rest} more.`}${todo === "" ? "" : `\n${todo}`}`;
}

function describeLine({ line, faults }: { line: number; faults: readonly Fault[] }): string {
  const clauses = named(faults).map(({ message, part, text }) => {
    const place = message === null ? part : `message ${message}`;
    return `${place === undefined ? "" : `, ${place}`} ${text}`;
  });
  const rest = faults.length - clauses.length;
  const more = faults.length < MAX_KEPT_FAULTS ? rest : `at least ${rest}`;
  return `Example ${line}${clauses.join(`; example ${line}`)}${rest === 0 ? "" : `; and ${more} more`}.`;
}

const named = (faults: readonly Fault[]): readonly Fault[] => faults.slice(0, MAX_FAULTS_PER_LINE);

/** What to do, as a sentence; nothing where the fault's own text says it. */
function adviceOn({ text, fix, expected }: Fault): string[] {
  if (fix === undefined || text.includes(fix)) return [];
  if (fix === `write ${expected}` && text.includes(`expected ${expected}`)) return [];
  return [`${fix.charAt(0).toUpperCase()}${fix.slice(1)}.`];
}

function jsonFault({ fault, expected = ONE_OBJECT, fix = WRITE_JSON }: JsonFault): Fault {
  return contentFault(fault, `a line that ${fault}`, expected, fix);
}

function contentFault(text: string, found: string, expected: string, fix: string): Fault {
  return { kind: "content", message: null, text, found, expected, fix };
}

const ONE_OBJECT = "one JSON object a line";
const WRITE_JSON = "write the line with a JSON writer";
const BLANK_LINE = contentFault(
  "is a blank line, expected one JSON object a line",
  "a blank line",
  ONE_OBJECT,
  "remove it",
);
const TOO_LONG = contentFault(
  `is longer than ${MAX_LINE_BYTES} bytes, the limit of one line; shorten it or write one example a line`,
  `more than ${MAX_LINE_BYTES} bytes`,
  ONE_OBJECT,
  "shorten it or write one example a line",
);
const NOT_UTF_8 = contentFault(
  "is not valid UTF-8; save the file as UTF-8",
  "bytes that are no UTF-8",
  "UTF-8",
  "save the file as UTF-8",
);
const UTF_16 = contentFault("is UTF-16; save the file as UTF-8", "UTF-16", "UTF-8", "save the file as UTF-8");

const GZIP = contentFault(
  "begins as a gzip file does; unpack it first",
  "a gzip file",
  "a JSONL file",
  "unpack it first",
);

/** Why bytes are no UTF-8: the first of a file show some formats. */
function encodingFault(line: number, bytes: Buffer): Fault {
  if (line === 1 && isUtf16(bytes)) return UTF_16;
  return line === 1 && bytes[0] === 0x1f && bytes[1] === 0x8b ? GZIP : NOT_UTF_8;
}

function decodeUtf8(bytes: Buffer): string | null {
  return isUtf8(bytes) ? bytes.toString("utf8") : null;
}

function isUtf16(bytes: Buffer): boolean {
  return (bytes[0] === 0xff && bytes[1] === 0xfe) || (bytes[0] === 0xfe && bytes[1] === 0xff);
}
