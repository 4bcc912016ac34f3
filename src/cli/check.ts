// `tunesmith check`: data files judged on this machine, without a server. src/main.ts is loaded only when it runs, as by
// `serve`.
import { stat, writeFile } from "node:fs/promises";
import { InvalidRequest, messageOf } from "../errors.ts";
import type { JobMethod, RequestedHyperparameters } from "../wire/fine-tuning.ts";
import { reportText } from "./check-text.ts";
import { targetOf } from "./local-files.ts";
import { recipeMembers, type RecipeOptions } from "./recipe-options.ts";
import { rowPage, rowText } from "./row-text.ts";
import { EXIT, formatCount, type Terminal } from "./terminal.ts";

export interface CheckOptions extends Pick<RecipeOptions, "loraRank" | "loraTargets" | "maxLength"> {
  model?: string;
  method: JobMethod;
  /** The rejected answer of a pair in the place of the preferred one. */
  rejected?: boolean;
  epochs: number | "auto";
  batchSize: number | "auto";
  measure?: boolean;
  show?: number;
  html?: string;
  fix?: string;
}

/** Exit code 0: a job on the files would start. 1: it would fail. */
export async function check(
  trainingFile: string,
  validationFile: string | undefined,
  options: CheckOptions,
  terminal: Terminal,
  json: boolean,
): Promise<number> {
  if (options.method !== "dpo" && options.rejected === true)
    throw new InvalidRequest("--rejected shows an answer of a preference pair: it needs --method dpo.");
  if (options.html !== undefined && options.show === undefined)
    throw new InvalidRequest("--html writes the page of one row: name it with --show <line>.");
  await requireFile(trainingFile);
  if (validationFile !== undefined) await requireFile(validationFile);
  if (options.fix !== undefined) return fix(trainingFile, options.fix, options.method, terminal, json);
  if (options.show !== undefined) return show(trainingFile, options.show, options, terminal, json);
  const { checkData } = await import("../main/check-data.ts");
  const report = await checkData({
    method: options.method,
    trainingFile,
    validationFile,
    model: options.model,
    hyperparameters: hyperparametersOf(options),
    measure: options.measure ?? false,
    signal: terminal.signal,
  });
  const names = { training_file: trainingFile, validation_file: validationFile ?? "" };
  terminal.stdout.write(json ? `${JSON.stringify(report)}\n` : reportText(report, names));
  return report.trainable ? EXIT.success : EXIT.failure;
}

function hyperparametersOf(options: CheckOptions): RequestedHyperparameters {
  return {
    n_epochs: options.epochs,
    batch_size: options.batchSize,
    learning_rate_multiplier: "auto",
    ...recipeMembers(options),
  };
}

async function show(
  path: string,
  line: number,
  options: CheckOptions,
  terminal: Terminal,
  json: boolean,
): Promise<number> {
  const { model, html, method, rejected = false } = options;
  const { showDataRow } = await import("../main/check-data.ts");
  const hyperparameters = hyperparametersOf(options);
  const row = await showDataRow(path, line, {
    method,
    rejected,
    model,
    hyperparameters,
    signal: terminal.signal,
  });
  if (html !== undefined) await writeFile(html, rowPage(row, path));
  if (json) terminal.stdout.write(`${JSON.stringify(row)}\n`);
  else if (html !== undefined) terminal.stdout.write(`Line ${line} of ${path} is at ${html}\n`);
  else terminal.stdout.write(rowText(row, terminal));
  return EXIT.success;
}

async function fix(
  path: string,
  target: string,
  method: CheckOptions["method"],
  terminal: Terminal,
  json: boolean,
): Promise<number> {
  if (await isSameFile(path, target))
    throw new InvalidRequest(`"${target}" is the file itself: name another one, so that nothing is lost.`);
  const place = await targetOf(target);
  if (!place.isFile)
    throw new InvalidRequest(
      `Cannot write "${target}": expected the name of a file, found a pipe or device. Name a file.`,
    );
  const { mendFile } = await import("../main/check-data.ts");
  const mended = await mendFile(path, place.path, { method, signal: terminal.signal });
  if (json) {
    terminal.stdout.write(
      `${JSON.stringify({
        path: target,
        lines: mended.lines,
        blank_lines: mended.blankLines,
        changed_lines: mended.changedLines,
        changes: mended.changes,
        unmended_lines: mended.unmendedLines,
      })}\n`,
    );
  } else {
    for (const { line, changes } of mended.changes)
      terminal.stdout.write(`Line ${line}: ${changes.join("; ")}.\n`);
    if (mended.changedLines > mended.changes.length)
      terminal.stdout.write(
        `… and ${formatCount(mended.changedLines - mended.changes.length)} more lines.\n`,
      );
    if (mended.blankLines > 0)
      terminal.stdout.write(
        `Left out ${formatCount(mended.blankLines)} blank ${mended.blankLines === 1 ? "line" : "lines"}.\n`,
      );
    terminal.stdout.write(
      `Wrote ${formatCount(mended.lines)} lines to ${target}, ${formatCount(mended.changedLines)} of them changed.\n`,
    );
    if (mended.unmendedLines > 0)
      terminal.stdout.write(
        `${formatCount(mended.unmendedLines)} need you and were copied as they are: see "tunesmith check ${target}".\n`,
      );
  }
  return mended.unmendedLines === 0 ? EXIT.success : EXIT.failure;
}

async function requireFile(path: string): Promise<void> {
  const problem = (found: string): InvalidRequest =>
    new InvalidRequest(`Cannot read "${path}": expected a file, found ${found}. Check the path.`);
  const found = await stat(path).catch((error: NodeJS.ErrnoException) => {
    throw problem(error.code === "ENOENT" ? "nothing of that name" : messageOf(error));
  });
  if (found.isDirectory()) throw problem("a folder");
}

async function isSameFile(path: string, target: string): Promise<boolean> {
  const [a, b] = [await stat(path), await stat(target).catch(() => null)];
  return b !== null && a.ino === b.ino && a.dev === b.dev;
}
