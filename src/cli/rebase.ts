// `tunesmith rebase`: a model's data and recipe on another base, both models on the same rows, and the gate before an alias moves.
import { readFile } from "node:fs/promises";
import { InvalidRequest, messageOf } from "../errors.ts";
import { gradersOf } from "../migrate/pair-grading.ts";
import { heldOutRows, rebase as rebaseModel, type HeldOutRow, type RebaseReport } from "../migrate/rebase.ts";
import type { LineageObject } from "../wire/lineage.ts";
import { addressPart } from "./address.ts";
import { followJob } from "./follow.ts";
import { plain } from "./migrate-text.ts";
import { createCountProgress } from "./progress.ts";
import { EXIT, formatPairs, formatTable, printAnswer, printNote, type CommandContext } from "./terminal.ts";

export interface RebaseCommandOptions {
  base: string;
  heldOut?: string;
  grader?: string[];
  alias?: string;
  margin: number;
  seed: number;
}

/** Exit code 1 when the gate is not passed. */
export async function rebase(
  context: CommandContext,
  model: string,
  options: RebaseCommandOptions,
): Promise<number> {
  const { client, terminal } = context;
  if (options.margin < 0 || options.margin >= 1)
    throw new InvalidRequest("--margin: expected a share from 0 to below 1.");
  for (const [what, given] of [
    ["a model's name", model],
    ["an alias", options.alias],
  ] as const)
    if (given !== undefined) addressPart(what, given);
  const graders = await gradersOf(client, options.grader ?? [], (path) => readFile(path, "utf8"));
  const bar = context.json ? null : await createCountProgress(terminal, "answers");
  try {
    const report = await rebaseModel(client, {
      ...{ model, base: options.base, graders, margin: options.margin, seed: options.seed },
      alias: options.alias ?? null,
      rows: (lineage) => rowsOf(context, lineage, options.heldOut),
      note: (text) => printNote(context, text),
      // The report alone goes to standard output where a program reads it.
      follow: async (jobId) =>
        void (await followJob(
          context.json ? { ...context, json: false, terminal: quiet(terminal) } : context,
          jobId,
        )),
      onProgress: (done, total) => bar?.update(done, total),
    });
    bar?.stop();
    printAnswer(context, report, () => reportText(report));
    return report.passes ? EXIT.success : EXIT.failure;
  } finally {
    bar?.stop();
  }
}

const quiet = (terminal: CommandContext["terminal"]): CommandContext["terminal"] => ({
  ...terminal,
  stdout: terminal.stderr,
});

async function rowsOf(
  { client }: CommandContext,
  lineage: LineageObject,
  path: string | undefined,
): Promise<HeldOutRow[]> {
  if (path !== undefined) {
    const text = await readFile(path, "utf8").catch((error: unknown) => {
      throw new InvalidRequest(`--held-out: ${path} cannot be read (${messageOf(error)}).`, { cause: error });
    });
    return heldOutRows(text, path);
  }
  const file = lineage.method === "supervised" ? lineage.validation_file : null;
  if (file === null || !file.available) return [];
  const answer = await client.download(`/files/${encodeURIComponent(file.id)}/content`);
  return heldOutRows(await answer.text(), file.filename ?? file.id);
}

function reportText(report: RebaseReport): string {
  const figure = (value: number): string => value.toFixed(3);
  const signed = (value: number): string => `${value < 0 ? "" : "+"}${figure(value)}`;
  const changed = (what: string, { count, shown }: RebaseReport["gains"]): string => {
    if (count === 0) return "";
    const rows = shown.slice(0, 5).map(({ line, reference, old, new: fresh }) =>
      formatPairs([
        [`line ${line}`, plain(reference)],
        ["old", plain(old ?? "-")],
        ["new", plain(fresh ?? "-")],
      ]),
    );
    return `\n${what}: ${count}${count > rows.length ? `, of which ${rows.length}` : ""}\n${rows.join("")}`;
  };
  return [
    `${report.old_model} on ${report.old_base} (old) and ${report.new_model} on ${report.new_base} (new), ${report.rows} rows\n`,
    formatTable(
      [
        { heading: "MEASURE" },
        { heading: "OLD", align: "right" },
        { heading: "NEW", align: "right" },
        { heading: "DIFFERENCE", align: "right" },
        { heading: "95% INTERVAL" },
        { heading: "GATE" },
      ],
      report.measures.map(({ name, old, new: fresh, difference, passes }) => [
        plain(name),
        figure(old.mean),
        figure(fresh.mean),
        signed(difference.mean),
        `${signed(difference.low)} to ${signed(difference.high)}`,
        passes ? "passed" : "not passed",
      ]),
    ),
    changed("Right only now", report.gains),
    changed("Wrong only now", report.regressions),
    `\n${gateText(report)}\n`,
  ].join("");
}

function gateText({ passes, margin, alias, new_model: model }: RebaseReport): string {
  const share = `${(margin * 100).toFixed(1)} points`;
  if (!passes) {
    const stays = alias === null ? "" : ` The alias ${alias.id} stays where it is.`;
    return `The gate is not passed: on some measure the new model may be worse by ${share} or more, as far as these rows can tell.${stays} More held-out rows narrow the intervals.`;
  }
  const passed = `The gate is passed: on no measure is the new model worse by ${share}, with 95 % certainty.`;
  return alias === null
    ? `${passed} Point your name at it: tunesmith alias set NAME ${model}`
    : `${passed} The alias ${alias.id} leads to it now.`;
}
