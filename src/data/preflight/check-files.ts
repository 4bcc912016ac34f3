// The check of a training and a validation file: every line judged, every rule asked, one report. One pass over each file, a
// line in memory at a time, and of each row what a rule keeps. The same files give the same report.
import { Cancelled, DatasetError } from "../../errors.ts";
import { datasetError } from "../dataset.ts";
import type { DatasetParam, DatasetReport } from "../dataset.ts";
import type { Fault } from "../fault.ts";
import { Answers } from "./answers.ts";
import { checkLinesOf } from "./checked-line.ts";
import type { CheckedLine } from "./checked-line.ts";
import { Languages } from "./languages.ts";
import { PreferredLengths } from "./preferred-lengths.ts";
import { MAX_COMPARED_ROWS, Repetition } from "./repetition.ts";
import { distributionOf, MAX_FAULTS, SEVERITIES } from "./report.ts";
import type { DataReport, FaultFound } from "./report.ts";
import { rowOf } from "./row.ts";
import { Secrets } from "./secrets.ts";
import { SystemPrompts } from "./system-prompts.ts";
import { TokenCount } from "./token-facts.ts";
import type { RowEncoding } from "./token-facts.ts";

export interface CheckFilesOptions {
  trainingFile: string;
  validationFile?: string | null | undefined;
  /** Whose data it is; left out: supervised. */
  method?: DatasetReport["method"] | undefined;
  /** The base model's own; without it nothing is said of tokens. */
  encoding?: RowEncoding | null | undefined;
  /** Characters of a file's rows that the rules look at; behind them lines are judged, and no more. Left out: all. */
  maxCheckedCharacters?: number | undefined;
  /** Ends with the error of the first file that cannot be trained on, instead of reporting its faults. */
  refuseFaults?: boolean | undefined;
  signal?: AbortSignal | undefined;
}

/** Throws Unavailable when a file cannot be read, UnsupportedModel, Cancelled; DatasetError where faults are refused. */
export async function checkFiles(options: CheckFilesOptions): Promise<DataReport> {
  const report: DataReport = { files: [], faults: [], faultCount: 0, findings: [], limits: [] };
  const repetition = new Repetition();
  await checkFile("training_file", options.trainingFile, options, repetition, report);
  if (typeof options.validationFile === "string")
    await checkFile("validation_file", options.validationFile, options, repetition, report);
  if (options.signal?.aborted) throw new Cancelled();
  report.findings.push(...(await repetition.findings()));
  if (repetition.skipped > 0) {
    report.limits.push(
      `Rows were compared with each other up to number ${MAX_COMPARED_ROWS.toLocaleString("en-US")}; ${repetition.skipped.toLocaleString("en-US")} were not.`,
    );
  }
  if (report.faultCount > report.faults.length)
    report.limits.push(`The first ${MAX_FAULTS.toLocaleString("en-US")} faults are listed.`);
  report.findings.sort(
    (a, b) => SEVERITIES.indexOf(a.severity) - SEVERITIES.indexOf(b.severity) || b.count - a.count,
  );
  return report;
}

/** What is trained on of one line, the wanted answer first. Throws DatasetError where the line is bad or there is none. */
export async function findExamples(
  method: DatasetReport["method"],
  path: string,
  line: number,
  signal?: AbortSignal,
): Promise<CheckedLine["examples"]> {
  const found: { examples: CheckedLine["examples"] | null; faults: readonly Fault[] } = {
    examples: null,
    faults: [],
  };
  await checkLinesOf(
    method,
    path,
    signal,
    ({ examples }) => {
      if (examples[0].line === line) found.examples = examples;
    },
    (bad, faults, lastBad) => {
      if (bad <= line && line <= lastBad) found.faults = faults;
    },
  );
  if (found.examples !== null) return found.examples;
  const faults = found.faults.map(({ text }) => text).join("; ");
  throw new DatasetError(
    faults === ""
      ? `There is no line ${line}. Take the number of a line of the file.`
      : `Line ${line} cannot be shown: it ${faults}.`,
    { lines: [line] },
  );
}

async function checkFile(
  file: DatasetParam,
  path: string,
  {
    method = "supervised",
    encoding,
    maxCheckedCharacters = Infinity,
    refuseFaults,
    signal,
  }: CheckFilesOptions,
  repetition: Repetition,
  report: DataReport,
): Promise<void> {
  const answers = new Answers(file);
  const rules = [answers, new SystemPrompts(file), new Languages(file), new Secrets(file)];
  const lengths = new PreferredLengths(file);
  const tokens = encoding === undefined || encoding === null ? null : new TokenCount(file, encoding);
  const messagesPerRow: number[] = [];
  const answerCharacters: number[] = [];
  let characters = 0;
  let unchecked = 0;
  let lastMessage: string | null = null;
  const addFault = (fault: FaultFound) => {
    report.faultCount += 1;
    if (report.faults.length < MAX_FAULTS) report.faults.push(fault);
    lastMessage = fault.text;
  };
  const dataset: DatasetReport = await checkLinesOf(
    method,
    path,
    signal,
    (line) => {
      if (characters > maxCheckedCharacters) {
        unchecked += 1;
        return;
      }
      const [wanted, ...others] = line.examples;
      const row = rowOf(file, wanted);
      characters += row.question.length + row.answer.length;
      // The answers beside the wanted one, for rules that look at every message.
      const whole = {
        ...row,
        messages: [...row.messages, ...others.flatMap(({ messages }) => messages.slice(-1))],
      };
      for (const rule of rules) rule.add(whole);
      lengths.add(line.examples);
      repetition.add(whole);
      messagesPerRow.push(row.messages.length);
      answerCharacters.push(row.answer.length);
      tokens?.add(line);
    },
    (first, faults, lastLine) => {
      for (let line = first; line <= lastLine; line++) {
        if (report.faults.length >= MAX_FAULTS && line > first) {
          report.faultCount += (lastLine - line + 1) * faults.length;
          break;
        }
        for (const { message, text, found = null, expected = null, fix = null } of faults) {
          const place = `Line ${line}${message === null ? "" : `, message ${message}`}`;
          addFault({ file, line, message, text: `${place} ${text}.`, found, expected, fix });
        }
      }
    },
  );
  for (const fault of tokens?.faults ?? []) addFault(fault);
  const whole = datasetError(dataset, file);
  if (whole !== null && refuseFaults === true) throw whole;
  // Too few examples, or a file in another format: what no single line shows.
  if (whole !== null && (lastMessage === null || dataset.foreignFormat !== null)) {
    report.faultCount += 1;
    report.faults.unshift({
      file,
      line: null,
      message: null,
      text: whole.message,
      found: null,
      expected: null,
      fix: null,
    });
  }
  if (unchecked > 0) {
    report.limits.push(
      `Only the first rows of the ${file.replace("_", " ")} were looked at for more than errors: ${unchecked.toLocaleString("en-US")} were not.`,
    );
  }
  for (const rule of rules) report.findings.push(...rule.findings());
  report.findings.push(...lengths.findings(), ...(tokens?.findings() ?? []));
  report.files.push({
    file,
    bytes: dataset.bytes,
    examples: dataset.exampleCount,
    badLines: dataset.badLineCount,
    messagesPerRow: distributionOf(messagesPerRow),
    answerCharacters: distributionOf(answerCharacters),
    labels: answers.labels(),
    tokens: tokens?.facts() ?? null,
  });
}
