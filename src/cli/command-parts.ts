// What groups of commands share in building their part of the tree.
import type { Command } from "commander";
import { integer } from "./option-values.ts";
import type { CommandContext } from "./terminal.ts";

/** Makes the action of a command that is an HTTP client; one that returns nothing has succeeded. */
export type ClientCommand = <Arguments extends unknown[]>(
  run: (context: CommandContext, ...values: Arguments) => Promise<number | void>,
) => (...given: unknown[]) => Promise<void>;

/** The options of a list with pages. */
export function withPage(command: Command): Command {
  return command
    .option("--limit <number>", "most rows to show", integer(1))
    .option("--after <id>", "go on after this one");
}
