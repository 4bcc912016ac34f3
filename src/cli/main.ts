// The entry of the command line: settings in, exit code out, every failure as one message. Besides src/main.ts it is the
// only file that reads the configuration, and `serve`, `check` and `models pull` are the only commands that load the server.
import { CommanderError } from "commander";
import { loadClientConfig, loadMigrationConfig, packageVersion } from "../config.ts";
import { InvalidRequest, messageOf, TunesmithError } from "../errors.ts";
import { ApiError, createClient, ServerUnreachable, shownUrl } from "./client.ts";
import { check } from "./check.ts";
import { pullModel, serve } from "./local.ts";
import { verify } from "./export.ts";
import { buildProgram } from "./program.ts";
import { EXIT, type Terminal } from "./terminal.ts";

/** Runs the command line of this process and returns its exit code. */
export async function runFromProcess(): Promise<number> {
  const stop = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.on(signal, () => {
      // The second one means it: whatever still runs ends here.
      if (stop.signal.aborted) process.exit(EXIT.interrupted);
      stop.abort();
    });
  }
  // A reader that has seen enough (`| head`) closes the pipe; that is no failure.
  const { stdin, stdout, stderr } = process;
  stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") process.exit(EXIT.success);
    stderr.write(`tunesmith: The answer could not be written: ${error.message}.\n`, () =>
      process.exit(EXIT.failure),
    );
  });
  return run(process.argv.slice(2), { stdin, stdout, stderr, signal: stop.signal });
}

/** Runs one command line against these streams. */
export async function run(words: readonly string[], terminal: Terminal): Promise<number> {
  const settings = loadClientConfig();
  let exitCode: number = EXIT.success;
  const program = buildProgram({
    version: packageVersion(),
    terminal,
    defaultBaseUrl: shownUrl(settings.baseUrl),
    connect: (options) => ({
      terminal,
      json: options.json ?? false,
      client: createClient({
        baseUrl: options.baseUrl ?? settings.baseUrl,
        apiKey: options.apiKey ?? settings.apiKey,
        signal: terminal.signal,
      }),
    }),
    connectMigration: (options) => {
      const { openAi, server } = loadMigrationConfig();
      return {
        terminal,
        json: options.json ?? false,
        openAi,
        client: createClient({
          baseUrl: options.baseUrl ?? server.baseUrl,
          apiKey: options.apiKey ?? server.apiKey,
          signal: terminal.signal,
        }),
      };
    },
    serve: (options, json) => serve(options, terminal, json),
    check: (trainingFile, validationFile, options, json) =>
      check(trainingFile, validationFile, options, terminal, json),
    pull: (model, json) => pullModel(model, terminal, json),
    verify: async (directory, json) => verify(directory, terminal, json),
    finish: (code) => {
      exitCode = code;
    },
  });
  try {
    await program.parseAsync(words, { from: "user" });
    return exitCode;
  } catch (error) {
    return reportFailure(error, terminal, words.includes("--json"));
  }
}

/** Prints what went wrong (to standard output as an error envelope with --json) and chooses the exit code. */
function reportFailure(error: unknown, terminal: Terminal, json: boolean): number {
  if (error instanceof CommanderError) return usageExit(error, terminal, json);
  if (terminal.signal.aborted) return EXIT.interrupted;
  const exitCode =
    error instanceof ServerUnreachable
      ? EXIT.unreachable
      : error instanceof InvalidRequest
        ? EXIT.usage
        : EXIT.failure;
  const message = error instanceof TunesmithError ? error.message : unforeseen(error);
  if (json) {
    const details = error instanceof TunesmithError ? error : null;
    printError(terminal, {
      message,
      type: error instanceof ApiError ? error.type : null,
      param: details?.param ?? null,
      code: details?.code ?? null,
    });
  } else {
    const requestId = error instanceof ApiError && error.status >= 500 ? error.requestId : null;
    const log = requestId === null ? "" : ` (request ${requestId} in the server's log)`;
    terminal.stderr.write(`tunesmith: ${message}${log}\n`);
  }
  return exitCode;
}

/** What a disk or network refuses is nothing this program does wrong. */
function unforeseen(error: unknown): string {
  const isOfSystem = error instanceof Error && "syscall" in error;
  return isOfSystem
    ? `The system refused: ${messageOf(error)}. Mend that, then try again.`
    : `Something unexpected went wrong in this program: ${messageOf(error)}`;
}

/** Commander has printed its message or help already. */
function usageExit(error: CommanderError, terminal: Terminal, json: boolean): number {
  if (error.exitCode === 0) return EXIT.success;
  if (json) {
    // Of a command line without a command it has nothing to say but its help.
    const isHelp = error.code === "commander.help";
    const message = isHelp ? "Expected a command, found none. See tunesmith --help." : error.message;
    printError(terminal, { message, type: null, param: null, code: error.code });
  }
  return EXIT.usage;
}

function printError(
  terminal: Terminal,
  error: { message: string; type: string | null; param: string | null; code: string | null },
): void {
  terminal.stdout.write(`${JSON.stringify({ error })}\n`);
}
