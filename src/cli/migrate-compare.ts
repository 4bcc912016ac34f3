// `tunesmith migrate openai record` and `compare`: what it costs and whether to go on, and how old and new differ.
import { join, resolve } from "node:path";
import { createInterface } from "node:readline/promises";
import { InvalidRequest } from "../errors.ts";
import { priceOf } from "../migrate/budget.ts";
import { compare as compareFolder, writeComparison } from "../migrate/compare.ts";
import { createOpenAiClient } from "../migrate/openai-client.ts";
import { readPrompts } from "../migrate/prompts.ts";
import { record as recordPrompts, type RecordStatement, type RecordSummary } from "../migrate/record.ts";
import { comparisonPage, comparisonText } from "./comparison-page.ts";
import type { MigrationContext } from "./migrate-context.ts";
import { plain } from "./migrate-text.ts";
import { createCountProgress } from "./progress.ts";
import { EXIT, formatCount, formatPairs, printAnswer, printNote } from "./terminal.ts";

export interface RecordCommandOptions {
  prompts: string;
  model: string;
  maxCost?: number;
  maxTokens: number;
  temperature: number;
  priceInput?: number;
  priceOutput?: number;
  atATime: number;
  yes?: boolean;
}

export interface CompareCommandOptions {
  new: string;
  old?: string;
  grader?: string[];
  embeddingModel: string;
  seed: number;
}

/** Exit code 1 when not every prompt has its answer. */
export async function record(
  context: MigrationContext,
  folder: string,
  options: RecordCommandOptions,
): Promise<number> {
  const { terminal } = context;
  if (options.maxCost !== undefined && options.maxCost <= 0)
    throw new InvalidRequest("--max-cost: expected US dollars above 0.");
  if (options.temperature < 0 || options.temperature > 2)
    throw new InvalidRequest("--temperature: expected a number from 0 to 2.");
  const price = priceOf(options.model, {
    input: options.priceInput ?? null,
    output: options.priceOutput ?? null,
  });
  const prompts = await readPrompts(resolve(options.prompts), options);
  const client = createOpenAiClient(context.openAi, terminal.signal);
  const bar = context.json ? null : await createCountProgress(terminal, "answers");
  let summary: RecordSummary;
  try {
    summary = await recordPrompts(client, resolve(folder), {
      model: options.model,
      prompts,
      price,
      cap: options.maxCost ?? null,
      atATime: options.atATime,
      confirm: (statement) => confirm(context, statement, options.yes ?? false),
      onProgress: (done, total, spent) => bar?.update(done, total, `, at most $${spent.toFixed(4)} spent`),
    });
  } finally {
    bar?.stop();
  }
  printAnswer(context, summary, () => recordText(summary));
  return summary.recorded === summary.prompts ? EXIT.success : EXIT.failure;
}

/** Says what it costs; asks where a person sits, and needs --yes where none does. */
async function confirm(
  context: MigrationContext,
  statement: RecordStatement,
  isAgreed: boolean,
): Promise<boolean> {
  const { terminal } = context;
  terminal.stderr.write(statementText(statement));
  if (isAgreed) return true;
  const isPerson = terminal.stdin.isTTY === true && terminal.stdout.isTTY === true;
  if (!isPerson || context.json)
    throw new InvalidRequest(
      "Nothing was sent: this costs money, and nobody can be asked here. Give --yes, best with --max-cost.",
    );
  const lines = createInterface({ input: terminal.stdin, output: terminal.stdout, terminal: true });
  try {
    const said = await lines.question("Send them? [y/N] > ", { signal: terminal.signal });
    return /^y(es)?$/i.test(said.trim());
  } finally {
    lines.close();
  }
}

function statementText(statement: RecordStatement): string {
  const { price } = statement;
  return formatPairs([
    ["model", plain(statement.model)],
    ["prompts", formatCount(statement.prompts)],
    ["equal to earlier ones", statement.duplicates === 0 ? null : formatCount(statement.duplicates)],
    ["recorded already", statement.already_recorded === 0 ? null : formatCount(statement.already_recorded)],
    ["to send", formatCount(statement.to_send)],
    ["price", `$${price.input} for a million tokens read, $${price.output} written (${price.source})`],
    ["likely cost", `$${statement.likely_usd.toFixed(4)}`],
    ["at worst", `$${statement.worst_usd.toFixed(4)}`],
    [
      "spent by earlier runs",
      statement.spent_usd === 0 ? null : `at most $${statement.spent_usd.toFixed(4)}`,
    ],
    ["cap", `$${statement.cap_usd.toFixed(4)}, never exceeded`],
  ]);
}

function recordText(summary: RecordSummary): string {
  return [
    `${summary.recording}\n`,
    formatPairs([
      ["answers", `${formatCount(summary.recorded)} of ${formatCount(summary.prompts)}`],
      ["failed", summary.failed_count === 0 ? null : formatCount(summary.failed_count)],
      ["spent", `at most $${summary.spent_usd.toFixed(4)} of $${summary.cap_usd.toFixed(4)}`],
    ]),
    ...summary.failed.map(({ line, message }) => `line ${line}: ${plain(message)}\n`),
    summary.cap_reached
      ? "The cap leaves no room for the next prompt's worst case. Raise --max-cost to go on; nothing is asked twice.\n"
      : "",
  ].join("");
}

export async function compare(
  context: MigrationContext,
  folder: string,
  options: CompareCommandOptions,
): Promise<number> {
  const directory = resolve(folder);
  const bar = context.json ? null : await createCountProgress(context.terminal, "answers");
  printNote(context, `Asking ${options.new} at ${context.client.baseUrl} what the old model was asked.`);
  try {
    const comparison = await compareFolder(context.client, directory, {
      newModel: options.new,
      recording: options.old ?? null,
      graderFiles: options.grader ?? [],
      embeddingModel: options.embeddingModel,
      seed: options.seed,
      onProgress: (done, total) => bar?.update(done, total),
    });
    bar?.stop();
    await writeComparison(directory, comparison, comparisonPage(comparison));
    printAnswer(
      context,
      comparison,
      () => `${comparisonText(comparison)}${join(directory, "compare.html")}\n`,
    );
  } finally {
    bar?.stop();
  }
  return EXIT.success;
}
