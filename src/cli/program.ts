// The command tree: every command, argument and option on one screen each. What a command does is in its own file.
import { Command, Option } from "commander";
import type { CheckOptions } from "./check.ts";
import { addAliases } from "./aliases.ts";
import { chat, type ChatOptions } from "./chat.ts";
import { withPage } from "./command-parts.ts";
import type { ClientCommand } from "./command-parts.ts";
import { exportModel } from "./export.ts";
import { filesContent, filesDelete, filesGet, filesList, filesUpload } from "./files.ts";
import { followJob } from "./follow.ts";
import { modelsImport } from "./import.ts";
import {
  jobsCancel,
  jobsCheckpoints,
  jobsCreate,
  jobsEvents,
  jobsGet,
  jobsList,
  jobsPause,
  jobsResume,
  type CreateOptions,
} from "./jobs.ts";
import {
  keysCreate,
  keysList,
  keysRevoke,
  projectsCreate,
  projectsList,
  type CreateKeyOptions,
} from "./keys.ts";
import { addMigrate, type MigrationParts } from "./migrate-commands.ts";
import { modelsShow } from "./lineage.ts";
import { modelsDelete, modelsList } from "./models.ts";
import type { RebaseCommandOptions } from "./rebase.ts";
import { decimal, decimalOrAuto, integer, integerOrAuto, keyValue, list, repeated } from "./option-values.ts";
import { LORA_TARGETS_HELP } from "./recipe-options.ts";
import { ALL_PRECISIONS, EXPORT_FORMATS } from "../wire/export.ts";
import { JOB_METHODS } from "../wire/fine-tuning.ts";
import type { CommandContext, GlobalOptions, Terminal } from "./terminal.ts";

export interface ServeOptions {
  host?: string;
  port?: number;
}

/** What the tree needs from the process around it. */
export interface ProgramParts extends MigrationParts {
  version: string;
  terminal: Terminal;
  /** The server that clients talk to when no option names one, for the help text. */
  defaultBaseUrl: string;
  connect(options: GlobalOptions): CommandContext;
  /** The commands that are not HTTP clients. Each returns the exit code. */
  serve(options: ServeOptions, json: boolean): Promise<number>;
  pull(model: string, json: boolean): Promise<number>;
  check(
    trainingFile: string,
    validationFile: string | undefined,
    options: CheckOptions,
    json: boolean,
  ): Promise<number>;
  verify(directory: string, json: boolean): Promise<number>;
}

type Page = { limit?: number; after?: string };

export function buildProgram(parts: ProgramParts): Command {
  const program = new Command("tunesmith")
    .description("Fine-tune language models on your own machine, through the API you already use.")
    .version(parts.version, "-V, --version")
    .option("--base-url <url>", `server to talk to (default: ${parts.defaultBaseUrl})`)
    .option("--api-key <key>", "key sent to the server, if it wants one")
    .option("--json", "print JSON for programs instead of text")
    .configureHelp({ showGlobalOptions: true })
    .showHelpAfterError("(add --help for the options)")
    .configureOutput({
      writeOut: (text) => parts.terminal.stdout.write(text),
      writeErr: (text) => parts.terminal.stderr.write(text),
    })
    .exitOverride();

  /** Runs a client command; one that returns nothing has succeeded. */
  const client =
    <Arguments extends unknown[]>(
      run: (context: CommandContext, ...values: Arguments) => Promise<number | void>,
    ) =>
    async (...given: unknown[]): Promise<void> => {
      // Commander passes the command itself last.
      const command = given.at(-1) as Command;
      const context = parts.connect(command.optsWithGlobals<GlobalOptions>());
      parts.finish((await run(context, ...(given.slice(0, -1) as Arguments))) ?? 0);
    };

  program
    .command("serve")
    .description("start the server")
    .option("--host <address>", "address to listen on")
    .option("--port <number>", "port to listen on; 0 takes a free one", integer(0, 65_535))
    .action(async (options: ServeOptions, command: Command) => {
      parts.finish(await parts.serve(options, command.optsWithGlobals<GlobalOptions>().json ?? false));
    });

  program
    .command("check")
    .description(
      "judge data files before training on them, without a server; exit code 1 when a job would fail",
    )
    .argument("<training-file>", "JSONL file")
    .argument("[validation-file]", "JSONL file to measure on")
    .addOption(
      new Option("--method <method>", "what the files hold: chats (supervised) or preference pairs (dpo)")
        .choices(JOB_METHODS)
        .default("supervised"),
    )
    .option("-m, --model <model>", "base model or alias whose tokens are counted; must be on this machine")
    .option("--epochs <number>", 'passes over the data, or "auto"', integerOrAuto, "auto")
    .option("--batch-size <number>", 'examples per step, or "auto"', integerOrAuto, "auto")
    .option("--lora-rank <number>", "rank of the adapters", integer(1))
    .option("--lora-targets <list>", LORA_TARGETS_HELP, list)
    .option("--max-length <tokens>", "where examples are cut", integer(1))
    .option("--measure", "take the time from training steps on some rows; loads the model")
    .option("--show <line>", "show one row as the model sees it, marked where it carries loss", integer(1))
    .option(
      "--rejected",
      "with --show of a preference pair: the rejected answer in place of the preferred one",
    )
    .option("--html <path>", "write the row of --show as a page")
    .option("--fix <path>", "write a corrected copy of the training file and say what was changed")
    .action(
      async (
        trainingFile: string,
        validationFile: string | undefined,
        options: CheckOptions,
        command: Command,
      ) => {
        const { json = false } = command.optsWithGlobals<GlobalOptions>();
        parts.finish(await parts.check(trainingFile, validationFile, options, json));
      },
    );

  addFiles(program, client);
  addJobs(program, client);
  addModels(program, client, parts);
  addAliases(program, client);
  addRebase(program, client);
  addExports(program, client, parts);
  addMigrate(program, parts);
  addKeys(program, client);

  program
    .command("chat")
    .description("talk to a model: one message, standard input, or a conversation on a terminal")
    .argument("<model>", "base model, alias or fine-tuned model")
    .argument("[message]", "what to say; left out: a conversation, or standard input in a pipe")
    .option("--system <text>", "system message in front")
    .option("--temperature <number>", "0 to 2", decimal)
    .option("--top-p <number>", "0 to 1", decimal)
    .option("--seed <number>", "same seed, same answer", integer())
    .option("--max-tokens <number>", "longest answer in tokens", integer(1))
    .action(
      client((context, model: string, message: string | undefined, options: ChatOptions) =>
        chat(context, model, message, options),
      ),
    );

  return program;
}

function addFiles(program: Command, client: ClientCommand): void {
  const files = program.command("files").description("training data and results on the server");
  files
    .command("upload")
    .description("upload a local file")
    .argument("<path>")
    .option("--purpose <purpose>", "what the file is for", "fine-tune")
    .action(client(filesUpload));
  withPage(files.command("list").description("list files, newest first"))
    .option("--purpose <purpose>", "only files of this purpose")
    .action(client(filesList));
  files.command("get").description("show one file").argument("<id>").action(client(filesGet));
  files
    .command("content")
    .description("print a file's content; a result file is printed as CSV")
    .argument("<id>")
    .option("-o, --output <path>", "write to this file instead")
    .action(client(filesContent));
  files.command("delete").description("delete a file").argument("<id>").action(client(filesDelete));
}

function addJobs(program: Command, client: ClientCommand): void {
  const jobs = program.command("jobs").description("fine-tuning jobs");
  jobs
    .command("create")
    .description("fine-tune a model")
    .requiredOption("-m, --model <model>", "base model or alias to train")
    .requiredOption("-t, --training-file <id or path>", "JSONL file; a local path is uploaded first")
    .option("--validation-file <id or path>", "JSONL file to measure on; a local path is uploaded first")
    .option("--suffix <text>", "part of the new model's name")
    .option("--seed <number>", "same seed and data, same weights", integer(0))
    .addOption(
      new Option("--method <method>", "what the file holds: chats (supervised) or preference pairs (dpo)")
        .choices(JOB_METHODS)
        .default("supervised"),
    )
    .option("--epochs <number>", 'passes over the data, or "auto"', integerOrAuto)
    .option("--batch-size <number>", 'examples per step, or "auto"', integerOrAuto)
    .option(
      "--learning-rate-multiplier <number>",
      'times the base model\'s own learning rate, or "auto"',
      decimalOrAuto,
    )
    .option(
      "--beta <number>",
      'with dpo: how closely the model is held to its start, or "auto"',
      decimalOrAuto,
    )
    .option("--lora-rank <number>", "rank of the adapters", integer(1))
    .option("--lora-alpha <number>", "their strength; left out: in the usual ratio to the rank", decimal)
    .option("--lora-dropout <number>", "share of their inputs left out while training", decimal)
    .option("--lora-targets <list>", LORA_TARGETS_HELP, list)
    .option("--max-length <tokens>", "where examples are cut", integer(1))
    .option(
      "--early-stopping <epochs>",
      "end after so many epochs without a lower validation loss, and keep the best",
      integer(1),
    )
    .option("--warmup-ratio <number>", "share of the steps in which the rate rises", decimal)
    .option("--weight-decay <number>", "of AdamW", decimal)
    .addOption(new Option("--metadata <key=value>", "kept with the job; may be repeated").argParser(keyValue))
    .option("--follow", "follow the job to its end")
    .action(client((context, options: CreateOptions) => jobsCreate(context, options)));
  withPage(jobs.command("list").description("list jobs, newest first")).action(client(jobsList));
  jobs.command("get").description("show one job").argument("<id>").action(client(jobsGet));
  jobs
    .command("follow")
    .description("show a job's progress until it ends; exit code 0 only when it succeeded")
    .argument("<id>")
    .action(client((context, id: string) => followJob(context, id)));
  withPage(jobs.command("events").description("show a job's latest events").argument("<id>")).action(
    client((context, id: string, options: Page) => jobsEvents(context, id, options)),
  );
  jobs
    .command("checkpoints")
    .description("list a finished job's checkpoints, newest first")
    .argument("<id>")
    .action(client(jobsCheckpoints));
  jobs
    .command("pause")
    .description("pause a running job; nothing of it is lost")
    .argument("<id>")
    .action(client(jobsPause));
  jobs
    .command("resume")
    .description("go on with a paused job from where it stopped")
    .argument("<id>")
    .action(client(jobsResume));
  jobs.command("cancel").description("cancel a job").argument("<id>").action(client(jobsCancel));
}

function addModels(program: Command, client: ClientCommand, parts: ProgramParts): void {
  const models = program.command("models").description("models, and which local model stands behind each");
  models
    .command("list", { isDefault: true })
    .description("list models (also without `list`)")
    .action(client(modelsList));
  models
    .command("pull")
    .description("download a base model to this machine")
    .argument("<model>", "name of a base model in the catalogue; a path is used where it lies")
    .action(async (model: string, _options: object, command: Command) => {
      parts.finish(await parts.pull(model, command.optsWithGlobals<GlobalOptions>().json ?? false));
    });
  models
    .command("import")
    .description("take in a model: a PEFT adapter, a Hugging Face folder, a .gguf file, or what export wrote")
    .argument("<path>", "folder, .gguf file or .tar archive of this machine")
    .option(
      "--name <text>",
      "an adapter's suffix; a whole model's name (default: that of its file or folder)",
    )
    .option(
      "--base <model>",
      "base model on the server that an adapter is for, where its files name none known there",
    )
    .action(client(modelsImport));
  models
    .command("show")
    .description("show where a model comes from and what became of it, as Markdown")
    .argument("<model>", "fine-tuned model, checkpoint or alias")
    .action(client(modelsShow));
  models
    .command("delete")
    .description("delete a fine-tuned model")
    .argument("<model>")
    .action(client(modelsDelete));
}

function addRebase(program: Command, client: ClientCommand): void {
  program
    .command("rebase")
    .description(
      "train a model's data and recipe on another base, compare the two on held-out rows; exit code 1 when the gate is not passed",
    )
    .argument("<model>", "fine-tuned model, checkpoint or alias")
    .requiredOption("--base <model>", "base model to train on")
    .option("--held-out <file>", "JSONL of chats to score on; left out: the job's validation file")
    .option("--grader <file>", "JSON of a grader; may be repeated", repeated)
    .option("--alias <alias>", "alias to move to the new model if the gate is passed")
    .option("--margin <share>", "what the new model may be worse by, with 95 % certainty", decimal, 0.05)
    .option("--seed <number>", "of the intervals' resampling", integer(0), 0)
    .action(
      client(async (context, model: string, options: RebaseCommandOptions) =>
        (await import("./rebase.ts")).rebase(context, model, options),
      ),
    );
}

function addExports(program: Command, client: ClientCommand, parts: ProgramParts): void {
  program
    .command("export")
    .description("write a fine-tuned model's files into a folder, checked against the model that was trained")
    .argument("<model>", "fine-tuned model or checkpoint")
    .addOption(
      new Option("--format <format>", "what the files are for").choices(EXPORT_FORMATS).makeOptionMandatory(),
    )
    .addOption(
      new Option(
        "--precision <precision>",
        "how weights are stored, where the format leaves a choice",
      ).choices(ALL_PRECISIONS),
    )
    .requiredOption("-o, --out <folder>", "where to; not there yet, or empty")
    .action(client(exportModel));
  program
    .command("verify")
    .description(
      "check an exported folder against its certificate, without a server; exit code 1 when it differs",
    )
    .argument("<folder>")
    .action(async (directory: string, _options: object, command: Command) => {
      parts.finish(await parts.verify(directory, command.optsWithGlobals<GlobalOptions>().json ?? false));
    });
}

function addKeys(program: Command, client: ClientCommand): void {
  const keys = program.command("keys").description("API keys; needs an admin key, or a server without keys");
  keys
    .command("create")
    .description("make a key and print it, this once; the first one must have the scope admin")
    .option("--name <text>", "what it is for")
    .option("--project <id>", "project whose objects it sees")
    .option("--scopes <list>", "read, train, infer, admin, separated by commas", list)
    .option("--requests-per-minute <number>", "most requests", integer(1))
    .option("--tokens-per-minute <number>", "most tokens read and written", integer(1))
    .action(client((context, options: CreateKeyOptions) => keysCreate(context, options)));
  withPage(keys.command("list").description("list keys, newest first"))
    .option("--project <id>", "only keys of this project")
    .action(client(keysList));
  keys
    .command("revoke")
    .description("from now on refuse a key")
    .argument("<id>")
    .action(client((context, id: string) => keysRevoke(context, id)));
  const projects = program.command("projects").description("projects, none of which sees another's objects");
  projects
    .command("create")
    .description("make a project")
    .argument("<name>")
    .option("--id <id>", "take over an id that clients already send")
    .action(client(projectsCreate));
  withPage(projects.command("list").description("list projects, newest first")).action(client(projectsList));
}
