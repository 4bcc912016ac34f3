// `tunesmith migrate openai plan` and `pull`: what is at OpenAI, as a table, and how far fetching it has come.
import { resolve } from "node:path";
import { createOpenAiClient } from "../migrate/openai-client.ts";
import { planMigration } from "../migrate/plan.ts";
import { pullFromOpenAi, type PullSummary } from "../migrate/pull.ts";
import { pullFromHand } from "../migrate/hand-saved.ts";
import type { MigrationContext } from "./migrate-context.ts";
import { planText, summaryText } from "./migrate-text.ts";
import { createCountProgress } from "./progress.ts";
import { EXIT, formatCount, printAnswer, printNote } from "./terminal.ts";

export interface PullCommandOptions {
  out: string;
  from?: string;
}

export async function plan(context: MigrationContext): Promise<number> {
  const client = createOpenAiClient(context.openAi, context.terminal.signal);
  printNote(context, `Reading what ${client.baseUrl} lists; nothing is changed there.`);
  const found = await planMigration(client, Date.now());
  printAnswer(context, found, () => planText(found));
  return EXIT.success;
}

/** Exit code 1 when something could not be fetched. */
export async function pull(context: MigrationContext, options: PullCommandOptions): Promise<number> {
  const directory = resolve(options.out);
  const summary = await (options.from === undefined
    ? pullByKey(context, directory)
    : pullFromHand(resolve(options.from), directory));
  printAnswer(context, summary, () => summaryText(summary));
  return summary.failed.length === 0 && summary.problems.length === 0 ? EXIT.success : EXIT.failure;
}

async function pullByKey(context: MigrationContext, directory: string): Promise<PullSummary> {
  const { terminal } = context;
  const client = createOpenAiClient(context.openAi, terminal.signal);
  printNote(
    context,
    `Fetching from ${client.baseUrl} into ${directory}. It may be stopped at any time and goes on from there.`,
  );
  const bar = context.json ? null : await createCountProgress(terminal, "objects");
  try {
    return await pullFromOpenAi(client, directory, {
      signal: terminal.signal,
      progress: {
        update: (done, total, bytes) =>
          bar?.update(done, total, `, ${formatCount(Math.round(bytes / 2 ** 20))} MB of files`),
      },
    });
  } finally {
    bar?.stop();
  }
}
