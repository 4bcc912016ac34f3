// The tree of `tunesmith migrate openai`. What a command does is in files of its own, which are loaded when it runs.
import { Option, type Command } from "commander";
import { decimal, integer, repeated } from "./option-values.ts";
import type { CompareCommandOptions, RecordCommandOptions } from "./migrate-compare.ts";
import type { MigrationContext } from "./migrate-context.ts";
import type { PullCommandOptions } from "./migrate-pull.ts";
import type { DistilCommandOptions, RetrainCommandOptions } from "./migrate-train.ts";
import type { GlobalOptions } from "./terminal.ts";

export interface MigrationParts {
  connectMigration(options: GlobalOptions): MigrationContext;
  /** Receives the exit code of the command that ran. */
  finish(exitCode: number): void;
}

export function addMigrate(program: Command, parts: MigrationParts): void {
  const openai = program
    .command("migrate")
    .description("take fine-tunes elsewhere and make them yours")
    .command("openai")
    .description("from OpenAI, by the key in OPENAI_API_KEY");

  const action =
    <Module>(
      load: () => Promise<Module>,
      run: (module: Module, context: MigrationContext, ...values: never[]) => Promise<number>,
    ) =>
    async (...given: unknown[]): Promise<void> => {
      const context = parts.connectMigration((given.at(-1) as Command).optsWithGlobals<GlobalOptions>());
      parts.finish(await run(await load(), context, ...(given.slice(0, -1) as never[])));
    };
  const pulling = () => import("./migrate-pull.ts");
  const training = () => import("./migrate-train.ts");
  const comparing = () => import("./migrate-compare.ts");

  openai
    .command("plan")
    .description("list what there is, until when, what cannot be had and why; changes nothing")
    .action(action(pulling, (module, context) => module.plan(context)));

  openai
    .command("pull")
    .description(
      "fetch data, jobs, results, evals and stored completions into a folder; goes on where it stopped",
    )
    .requiredOption("-o, --out <folder>", "where to: a new folder, or that of an earlier pull")
    .option("--from <folder>", "no key: take files that were saved by hand (docs/migrate.md)")
    .action(action(pulling, (module, context, options: PullCommandOptions) => module.pull(context, options)));

  withTraining(
    openai
      .command("retrain")
      .description("train the jobs of a pull here, and let the old names answer with the new models")
      .argument("<folder>", "folder of a pull"),
  )
    .option("--job <id>", "only this job; may be repeated", repeated)
    .action(
      action(training, (module, context, folder: string, options: RetrainCommandOptions) =>
        module.retrain(context, folder, options),
      ),
    );

  openai
    .command("record")
    .description(
      "keep what an old model answers to your prompts; costs money at OpenAI, never more than the cap",
    )
    .argument("<folder>", "folder of a pull, or any other for recordings")
    .requiredOption("--prompts <file>", "JSONL: a line each with messages, or with a prompt")
    .requiredOption("-m, --model <model>", "OpenAI's model, ft:…")
    .option(
      "--max-cost <usd>",
      "most that all answers of this recording may cost; left out: the worst case that is shown",
      decimal,
    )
    .option("--max-tokens <number>", "longest answer where a line sets none", integer(1), 1024)
    .option("--temperature <number>", "where a line sets none", decimal, 0)
    .option("--price-input <usd>", "for a million tokens read, for a model whose price is not known", decimal)
    .option("--price-output <usd>", "for a million tokens written", decimal)
    .option("--at-a-time <number>", "prompts on their way together", integer(1, 16), 4)
    .option("-y, --yes", "do not ask whether to spend it; needed where nobody can be asked")
    .action(
      action(comparing, (module, context, folder: string, options: RecordCommandOptions) =>
        module.record(context, folder, options),
      ),
    );

  withTraining(
    openai
      .command("distil")
      .description("train on what was recorded")
      .argument("<folder>", "folder with recordings"),
  )
    .option("--recording <file or model>", "which, where there are several")
    .option("--epochs <number>", "passes over the data", integer(1))
    .option("--suffix <text>", "part of the new model's name")
    .action(
      action(training, (module, context, folder: string, options: DistilCommandOptions) =>
        module.distil(context, folder, options),
      ),
    );

  openai
    .command("compare")
    .description("old answers against a new model's, from a recording: works when the old model is gone")
    .argument("<folder>", "folder with recordings; compare.html and compare.json are written there")
    .requiredOption("--new <model>", "model of the tunesmith server")
    .option("--old <file or model>", "which recording, where there are several")
    .addOption(
      new Option("--grader <file>", "a grader as JSON, run on both answers; may be repeated").argParser(
        repeated,
      ),
    )
    .option("--embedding-model <model>", "measures how alike answers are", "text-embedding-3-small")
    .option("--seed <number>", "of the intervals", integer(0), 0)
    .action(
      action(comparing, (module, context, folder: string, options: CompareCommandOptions) =>
        module.compare(context, folder, options),
      ),
    );
}

function withTraining(command: Command): Command {
  return command
    .requiredOption("--base <model>", "base model of the tunesmith server")
    .option("--no-alias", "leave the old names alone");
}
