// What a migration's commands say to people. Names, messages and reasons come from OpenAI, so none of it may move the cursor.
import type { MigrationPlan } from "../migrate/plan.ts";
import type { PullSummary } from "../migrate/pull.ts";
import { formatCount, formatDuration, formatPairs, formatTable } from "./terminal.ts";

export function planText(plan: MigrationPlan): string {
  const { totals } = plan;
  return [
    formatPairs([
      ["from", plain(plan.base_url)],
      ["objects", formatCount(totals.objects)],
      ["bytes of files", formatCount(totals.bytes)],
      [
        "a pull takes",
        `about ${formatDuration(totals.seconds)}, in ${formatCount(totals.requests)} requests (assumed pace)`,
      ],
      [
        "stored completions",
        `${formatCount(plan.stored_completions.count)}${plan.stored_completions.more ? " or more" : ""}`,
      ],
      ["evals", formatCount(plan.evals.length)],
      [
        "other files",
        plan.other_files === 0 ? null : `${formatCount(plan.other_files)}, for other things; not pulled`,
      ],
    ]),
    heading("Fine-tuned models", `dates: ${plan.dates_from}`),
    plan.models.length === 0
      ? "None.\n"
      : formatTable(
          [{ heading: "MODEL" }, { heading: "ANSWERS UNTIL" }, { heading: "NOW" }, { heading: "JOB" }],
          plan.models.map((model) => [
            plain(model.id),
            untilText(model),
            model.state,
            plain(model.job ?? "-"),
          ]),
        ),
    heading("Jobs"),
    plan.jobs.length === 0
      ? "None.\n"
      : formatTable(
          [
            { heading: "JOB" },
            { heading: "STATUS" },
            { heading: "METHOD" },
            { heading: "BASE" },
            { heading: "RETRAIN" },
          ],
          plan.jobs.map((job) =>
            [
              job.id,
              job.status,
              job.method,
              job.model,
              job.not_retrainable === null ? "yes" : `no: ${job.not_retrainable}`,
            ].map(plain),
          ),
        ),
    heading("Files"),
    plan.files.length === 0
      ? "None.\n"
      : formatTable(
          [
            { heading: "FILE" },
            { heading: "NAME" },
            { heading: "PURPOSE" },
            { heading: "BYTES", align: "right" },
            { heading: "STATE" },
            { heading: "JOBS", align: "right" },
          ],
          plan.files.map((file) => [
            plain(file.id),
            plain(file.filename ?? "-"),
            plain(file.purpose ?? "-"),
            file.bytes === null ? "-" : formatCount(file.bytes),
            file.state,
            String(file.jobs.length),
          ]),
        ),
    heading("What cannot be had"),
    plan.cannot_be_had.length === 0
      ? "Nothing: all of it can.\n"
      : plan.cannot_be_had.map(({ what, why }) => `${plain(what)}: ${plain(why)}\n`).join(""),
  ].join("");
}

function untilText({ stops_on: date, stops_on_from: from, base }: MigrationPlan["models"][number]): string {
  if (date === null) return `not known: nobody has said of the base ${plain(base ?? "in its name")}`;
  return from === "model card" ? `${date} (its card)` : date;
}

export function summaryText(summary: PullSummary): string {
  const { counts } = summary;
  const names = {
    job: "jobs",
    file: "data files",
    result: "result files",
    eval: "evals",
    completion: "stored completions",
  };
  const rows = Object.entries(names).map(([kind, name]): [string, string] => {
    const { done, failed } = counts[kind as keyof typeof names];
    return [name, `${formatCount(done)}${failed === 0 ? "" : `, ${formatCount(failed)} failed`}`];
  });
  return [
    `${summary.directory}\n`,
    formatPairs([...rows, ["bytes", formatCount(summary.bytes)]]),
    ...summary.failed
      .slice(0, MAX_SHOWN)
      .map(({ kind, id, reason }) => `${kind} ${plain(id)}: ${plain(reason)}\n`),
    summary.failed.length > MAX_SHOWN
      ? `… and ${formatCount(summary.failed.length - MAX_SHOWN)} more, in manifest.json.\n`
      : "",
    ...summary.problems.map(({ section, message }) => `${section} could not be listed: ${plain(message)}\n`),
    summary.failed.length > 0 || summary.problems.length > 0 ? "The same command tries these again.\n" : "",
  ].join("");
}

/** Failures that are named; all are in the manifest. */
const MAX_SHOWN = 20;

function heading(text: string, note = ""): string {
  return `\n${text}${note === "" ? "" : ` (${note})`}\n`;
}

/** One line without control characters. */
export function plain(text: string): string {
  return text.replaceAll(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g, " ");
}
