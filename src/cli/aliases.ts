// `tunesmith alias`: names that clients use and that lead to a model version, moved, tried out and rolled back.
import { InvalidArgumentError } from "commander";
import type { Command } from "commander";
import type {
  AliasDeleted,
  AliasMoveObject,
  AliasObject,
  CandidateMode,
  ComparisonObject,
} from "../wire/aliases.ts";
import type { List, ListWithIds } from "../wire/list.ts";
import { addressPart } from "./address.ts";
import { withPage } from "./command-parts.ts";
import type { ClientCommand } from "./command-parts.ts";
import { moreNote, noneNote } from "./list-text.ts";
import { formatPairs, formatTable, formatTime, printAnswer, type CommandContext } from "./terminal.ts";

export function addAliases(program: Command, client: ClientCommand): void {
  const alias = program
    .command("alias")
    .description("names that clients use, and the model version each leads to");
  alias
    .command("list", { isDefault: true })
    .description("list aliases (also without `list`)")
    .action(client(aliasList));
  alias
    .command("set")
    .description("make an alias, or move it to another model")
    .argument("<alias>")
    .argument("<model>", "base model, fine-tuned model or checkpoint")
    .option("--reason <text>", "kept in the alias's log")
    .action(client(aliasSet));
  alias.command("show").description("show one alias").argument("<alias>").action(client(aliasShow));
  alias
    .command("rollback")
    .description("undo the last move; again, the one before")
    .argument("<alias>")
    .option("--reason <text>", "kept in the alias's log")
    .action(client(aliasRollBack));
  alias
    .command("canary")
    .description("let a second model answer a share of the requests, by user")
    .argument("<alias>")
    .argument("<model>")
    .requiredOption("--percent <number>", "share of the requests, up to 100", percent)
    .option("--reason <text>", "kept in the alias's log")
    .action(client((context, ...given: CandidateArguments) => aliasCandidate(context, "canary", ...given)));
  alias
    .command("shadow")
    .description("let a second model answer copies of requests, and compare the answers")
    .argument("<alias>")
    .argument("<model>")
    .option("--percent <number>", "share of the requests, up to 100", percent, 100)
    .option("--reason <text>", "kept in the alias's log")
    .action(client((context, ...given: CandidateArguments) => aliasCandidate(context, "shadow", ...given)));
  alias
    .command("end-trial")
    .description("take the canary or shadow away")
    .argument("<alias>")
    .action(client(aliasEndTrial));
  withPage(
    alias.command("log").description("who moved it, when and why, newest first").argument("<alias>"),
  ).action(client(aliasLog));
  withPage(
    alias.command("comparisons").description("a shadow's answers beside the alias's own").argument("<alias>"),
  ).action(client(aliasComparisons));
  alias
    .command("delete")
    .description("delete an alias; the model it leads to stays")
    .argument("<alias>")
    .action(client(aliasDelete));
}

type CandidateArguments = [alias: string, model: string, options: { percent: number; reason?: string }];

async function aliasList(context: CommandContext): Promise<void> {
  const list = await context.client.get<List<AliasObject>>("/tunesmith/aliases");
  printAnswer(context, list, () => {
    if (list.data.length === 0)
      return noneNote("aliases", {}, 'Make one with "tunesmith alias set NAME MODEL".');
    const columns = [
      { heading: "ALIAS" },
      { heading: "MODEL" },
      { heading: "TRIED OUT" },
      { heading: "MOVED" },
    ];
    const rows = list.data.map((one) => [one.id, one.model, trialText(one), formatTime(one.moved_at)]);
    return formatTable(columns, rows);
  });
}

async function aliasShow(context: CommandContext, name: string): Promise<void> {
  print(context, await context.client.get<AliasObject>(pathOf(name)));
}

async function aliasSet(
  context: CommandContext,
  name: string,
  model: string,
  { reason }: { reason?: string },
): Promise<void> {
  print(context, await context.client.post<AliasObject>(pathOf(name), { model, reason }));
}

async function aliasRollBack(
  context: CommandContext,
  name: string,
  { reason }: { reason?: string },
): Promise<void> {
  print(context, await context.client.post<AliasObject>(`${pathOf(name)}/rollback`, { reason }));
}

async function aliasCandidate(
  context: CommandContext,
  mode: CandidateMode,
  ...[name, model, options]: CandidateArguments
): Promise<void> {
  const body = { model, mode, percent: options.percent, reason: options.reason };
  print(context, await context.client.post<AliasObject>(`${pathOf(name)}/candidate`, body));
}

async function aliasEndTrial(context: CommandContext, name: string): Promise<void> {
  print(context, await context.client.delete<AliasObject>(`${pathOf(name)}/candidate`));
}

async function aliasDelete(context: CommandContext, name: string): Promise<void> {
  const answer = await context.client.delete<AliasDeleted>(pathOf(name));
  printAnswer(context, answer, () => `Deleted ${answer.id}\n`);
}

async function aliasLog(
  context: CommandContext,
  name: string,
  page: { limit?: number; after?: string },
): Promise<void> {
  const list = await context.client.get<ListWithIds<AliasMoveObject>>(`${pathOf(name)}/moves`, { ...page });
  printAnswer(context, list, () => {
    if (list.data.length === 0) return noneNote("moves", { after: page.after }, "");
    const columns = [
      { heading: "WHEN" },
      { heading: "WHAT" },
      { heading: "FROM" },
      { heading: "TO" },
      { heading: "BY" },
      { heading: "WHY" },
    ];
    const rows = list.data.map((move) => [
      formatTime(move.created_at),
      move.action.replaceAll("_", " "),
      move.from_model ?? "-",
      move.mode === null ? (move.to_model ?? "-") : `${move.to_model}, ${move.mode} ${move.percent} %`,
      move.by,
      move.reason ?? "-",
    ]);
    return formatTable(columns, rows) + moreNote(list.has_more, list.last_id, `alias log ${name}`);
  });
}

async function aliasComparisons(
  context: CommandContext,
  name: string,
  page: { limit?: number; after?: string },
): Promise<void> {
  const list = await context.client.get<ListWithIds<ComparisonObject>>(`${pathOf(name)}/comparisons`, {
    ...page,
  });
  printAnswer(context, list, () => {
    if (list.data.length === 0) {
      const firstStep = `Start a shadow with "tunesmith alias shadow ${name} MODEL" and send requests.`;
      return noneNote("comparisons", { after: page.after }, firstStep);
    }
    const rows = list.data.map((one) => {
      const alike = one.equal ? "the same" : `similarity ${one.similarity.toFixed(2)}`;
      const answers = one.equal
        ? [["both", one.answer] as const]
        : [[one.model, one.answer] as const, [one.candidate, one.candidate_answer] as const];
      return `${formatTime(one.created_at)}  ${alike}  ${one.request_id}\n${formatPairs([["asked", one.question], ...answers])}`;
    });
    return rows.join("\n") + moreNote(list.has_more, list.last_id, `alias comparisons ${name}`);
  });
}

function print(context: CommandContext, alias: AliasObject): void {
  printAnswer(context, alias, () =>
    formatPairs([
      ["alias", alias.id],
      ["model", alias.model],
      ["before", alias.previous_model ?? "-"],
      ["tried out", trialText(alias)],
      ["moved", formatTime(alias.moved_at)],
    ]),
  );
}

function trialText({ candidate }: AliasObject): string {
  if (candidate === null) return "-";
  const { model, mode, percent: share, compared, equal, mean_similarity: similarity } = candidate;
  const counts =
    similarity === null
      ? ""
      : `, ${equal} of ${compared} answers the same, mean similarity ${similarity.toFixed(2)}`;
  return `${model}, ${mode} of ${share} %${counts}`;
}

const pathOf = (name: string) => `/tunesmith/aliases/${addressPart("an alias", name)}`;

function percent(text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !(value > 0 && value <= 100))
    throw new InvalidArgumentError("Expected a number above 0, up to 100.");
  return value;
}
