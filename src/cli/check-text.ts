// The report of `tunesmith check` for people: what it comes to, then what is wrong, worst first, then the figures.
import type { PreflightFault, PreflightFile, PreflightFinding, PreflightObject } from "../wire/preflight.ts";
import { formatCount, formatDuration, formatPairs } from "./terminal.ts";

type Names = Readonly<Record<PreflightFile["param"], string>>;

/** Faults and places printed one by one; --json has all. */
const SHOWN_FAULTS = 20;
const SHOWN_PLACES = 5;
const SHOWN_LABELS = 10;

export function reportText(report: PreflightObject, names: Names): string {
  const of = (severity: PreflightFinding["severity"]) =>
    report.findings.filter((finding) => finding.severity === severity);
  const [warnings, notes] = [of("warning"), of("note")];
  const sections = [
    summary(report, names, warnings.length, notes.length),
    report.faults.length === 0 ? "" : faultText(report, names),
    findingText("Warnings: a job starts, and most likely not as meant", warnings, names),
    findingText("Notes", notes, names),
    ...report.files.map((file) => fileText(file, names)),
    costText(report),
    report.limits.map((limit) => `${limit}\n`).join(""),
  ];
  return sections.filter((section) => section !== "").join("\n");
}

function summary(report: PreflightObject, names: Names, warnings: number, notes: number): string {
  const files = report.files
    .map(({ param, examples }) => `${names[param]}: ${plural(examples, "example")}\n`)
    .join("");
  const verdict = report.trainable
    ? "A job on this data would start"
    : `A job on this data would fail: ${plural(report.fault_count, "error")}`;
  return `${files}${verdict}; ${plural(warnings, "warning")}, ${plural(notes, "note")}.\n`;
}

function faultText({ faults, fault_count: count, files }: PreflightObject, names: Names): string {
  const place = (fault: PreflightFault) => (files.length > 1 ? `${names[fault.param]}: ` : "");
  const lines = faults
    .slice(0, SHOWN_FAULTS)
    .map((fault) => `  ${place(fault)}${fault.message}\n${fault.fix === null ? "" : `    → ${fault.fix}\n`}`);
  const rest = count - Math.min(count, SHOWN_FAULTS);
  const more = rest === 0 ? "" : `  … and ${formatCount(rest)} more; --json lists them.\n`;
  return `Errors: a job fails\n${lines.join("")}${more}`;
}

function findingText(title: string, findings: readonly PreflightFinding[], names: Names): string {
  if (findings.length === 0) return "";
  const texts = findings.map(({ param, message, fix, count, places }) => {
    const shown = places
      .slice(0, SHOWN_PLACES)
      .map(({ line, detail }) => `    line ${line}${detail === null ? "" : `: ${detail}`}\n`);
    const rest = count - Math.min(count, SHOWN_PLACES);
    const where = param === "validation_file" ? `${names.validation_file}: ` : "";
    return `  ${where}${message}\n${shown.join("")}${rest === 0 ? "" : `    … and ${formatCount(rest)} more\n`}    → ${fix}\n`;
  });
  return `${title}\n${texts.join("")}`;
}

function fileText(
  { param, tokens, labels, messages_per_row: messages }: PreflightFile,
  names: Names,
): string {
  const spread = ({ min, median, p90, max }: { min: number; median: number; p90: number; max: number }) =>
    `${formatCount(min)} to ${formatCount(max)}, median ${formatCount(median)}, 90 % up to ${formatCount(p90)}`;
  if (messages === null) return "";
  return `What the model sees of ${names[param]}\n${indented(
    formatPairs([
      ["messages per row", spread(messages)],
      ["tokens per row", tokens === null ? null : spread(tokens.per_row)],
      ["of them with loss", tokens === null ? null : spread(tokens.supervised_per_row)],
      [
        "tokens",
        tokens === null
          ? null
          : `${formatCount(tokens.total)}, ${formatCount(tokens.supervised)} with loss (${Math.round((100 * tokens.supervised) / tokens.total)} %)`,
      ],
      [
        "end token learnt",
        tokens === null
          ? null
          : `from ${formatCount(tokens.end_token_rows)} of ${formatCount(tokens.per_row.count)} rows`,
      ],
      [
        "cut rows",
        tokens === null
          ? null
          : tokens.truncated_rows === 0
            ? `none (longest: line ${tokens.longest.line}, ${formatCount(tokens.longest.tokens)} of ${formatCount(tokens.max_length)} tokens)`
            : `${formatCount(tokens.truncated_rows)}, at ${formatCount(tokens.max_length)} tokens`,
      ],
      ["labels", labels === null ? null : labelText(labels)],
    ]),
  )}`;
}

function labelText(labels: readonly { label: string; count: number }[]): string {
  const shown = labels.slice(0, SHOWN_LABELS).map(({ label, count }) => `${label} ${formatCount(count)}`);
  const rest = labels.length - shown.length;
  return `${shown.join(", ")}${rest === 0 ? "" : `, … ${rest} more`}`;
}

function costText({ cost, base_model: baseModel }: PreflightObject): string {
  if (cost === null) return "";
  const memory = `${gigabytes(cost.memory_bytes)} of ${gigabytes(cost.machine_memory_bytes)}`;
  const time =
    cost.seconds_from === "measured"
      ? `about ${formatDuration(cost.seconds)}, measured on this machine`
      : `roughly ${formatDuration(cost.seconds)} on an ordinary processor (--measure times this one)`;
  const prices = cost.openai.prices.map(({ model, usd }) => `${model} $${usd.toFixed(2)}`).join(", ");
  return `What a job takes on ${baseModel ?? ""}\n${indented(
    formatPairs([
      [
        "steps",
        `${formatCount(cost.steps)} (${plural(cost.n_epochs, "epoch")}, batch size ${cost.batch_size})`,
      ],
      [
        "trainable parameters",
        `${formatCount(cost.trainable_parameters)} of ${formatCount(cost.base_parameters)}`,
      ],
      ["adapter", `${(cost.adapter_bytes / 1e6).toFixed(1)} MB`],
      ["trained tokens", formatCount(cost.trained_tokens)],
      ["time", time],
      ["peak memory", memory],
      ["the same at OpenAI", `${prices} (${cost.openai.source})`],
    ]),
  )}`;
}

const gigabytes = (bytes: number) => `${(bytes / 1e9).toFixed(1)} GB`;

function indented(text: string): string {
  return text.replaceAll(/^(?=.)/gm, "  ");
}

function plural(count: number, word: string): string {
  return `${formatCount(count)} ${word}${count === 1 ? "" : "s"}`;
}
