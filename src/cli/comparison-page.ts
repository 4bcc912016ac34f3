// A comparison of old and new for people: as text, and as a page that needs nothing from elsewhere and runs nothing. Prompts and answers
// may hold anything, so all of it is escaped.
import type { Comparison, Difference } from "../migrate/compare.ts";
import { escaped } from "../wire/html-text.ts";
import { plain } from "./migrate-text.ts";
import { formatTable } from "./terminal.ts";

type MeanInterval = NonNullable<Comparison["exact_match"]>;

interface Row {
  name: string;
  about: string;
  interval: MeanInterval | null;
  isShare: boolean;
}

export function comparisonText(comparison: Comparison): string {
  const rows = rowsOf(comparison);
  return [
    `${plain(comparison.old_model)} (old, from its recording) and ${plain(comparison.new_model)} (new), ${promptCount(comparison.prompts)}\n`,
    formatTable(
      [
        { heading: "MEASURE" },
        { heading: "MEAN", align: "right" },
        { heading: "95% INTERVAL" },
        { heading: "OVER", align: "right" },
      ],
      rows.map(({ name, interval, isShare }) => [
        plain(name),
        interval === null ? "-" : figure(interval.mean, isShare),
        interval === null ? "-" : `${figure(interval.low, isShare)} to ${figure(interval.high, isShare)}`,
        String(interval?.count ?? 0),
      ]),
    ),
    missingNote(comparison, "\n"),
    ...comparison.unmeasured.map(({ what, why }) => `${what} was not measured: ${plain(why)}\n`),
    `${comparison.worst.length} differences, the worst first, are side by side in the page.\n`,
  ].join("");
}

const promptCount = (count: number): string => (count === 1 ? "1 prompt" : `${count} prompts`);

/** Empty where every prompt has its new answer. */
function missingNote({ prompts, answered }: Comparison, end: string): string {
  const missing = prompts - answered;
  if (missing === 0) return "";
  return `${promptCount(missing)} ${missing === 1 ? "has" : "have"} no new answer, which counts as no match.${end}`;
}

function rowsOf(comparison: Comparison): Row[] {
  const share = (name: string, about: string, interval: MeanInterval | null): Row => ({
    name,
    about,
    interval,
    isShare: true,
  });
  const number = (name: string, about: string, interval: MeanInterval | null): Row => ({
    name,
    about,
    interval,
    isShare: false,
  });
  return [
    share(
      "exact match",
      "the same text, white space at the ends aside; of all prompts",
      comparison.exact_match,
    ),
    share("valid format", "JSON where the old answer is JSON", comparison.format_valid),
    number("length, new to old", "characters, as a multiple", comparison.length_ratio),
    number("similarity", "cosine of embeddings, 1 for the same meaning", comparison.similarity),
    ...comparison.graders.flatMap(({ name, old, new: after, difference, errors }) => [
      number(`${name}: old`, "the grader's score", old),
      number(
        `${name}: new`,
        errors === 0 ? "the grader's score" : `the grader's score; ${errors} answers could not be judged`,
        after,
      ),
      number(`${name}: new less old`, "prompt by prompt", difference),
    ]),
  ];
}

function figure(value: number, isShare: boolean): string {
  return isShare ? `${(value * 100).toFixed(1)}%` : value.toFixed(3);
}

export function comparisonPage(comparison: Comparison): string {
  const { old_model: old, new_model: after } = comparison;
  const title = `${escaped(old)} and ${escaped(after)}`;
  const measures = rowsOf(comparison)
    .map(
      ({ name, about, interval, isShare }) =>
        `<tr><th scope="row">${escaped(name)}<br><small>${escaped(about)}</small></th>${
          interval === null
            ? `<td colspan="3">not measured</td>`
            : `<td>${figure(interval.mean, isShare)}</td><td>${figure(interval.low, isShare)} to ${figure(interval.high, isShare)}</td><td>${interval.count}</td>`
        }</tr>`,
    )
    .join("\n");
  const notes = [
    ...comparison.unmeasured.map(({ what, why }) => `${what} was not measured: ${why}`),
    missingNote(comparison, ""),
  ].filter((note) => note !== "");
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width">
<title>${title}</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 72em; padding: 0 1em; color: #222; background: #fff; }
table { border-collapse: collapse; }
th, td { text-align: left; padding: .3em .8em; border-bottom: 1px solid #ddd; vertical-align: top; }
small { color: #666; font-weight: normal; }
section { border-top: 2px solid #444; margin-top: 1.5em; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 1em; }
pre { font: 13px/1.5 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere; background: #f6f6f6; padding: .6em; margin: .3em 0; }
.fault { color: #a00; }
</style>
<h1>Old and new</h1>
<p>Old: <b>${escaped(old)}</b>, from its recording. New: <b>${escaped(after)}</b>. ${promptCount(comparison.prompts)}; intervals are 95 %, by the bootstrap with seed ${comparison.seed}.</p>
<table>
<tr><th>measure</th><th>mean</th><th>interval</th><th>over</th></tr>
${measures}
</table>
${notes.map((note) => `<p>${escaped(note)}</p>`).join("\n")}
<h2>The worst differences</h2>
${comparison.worst.length === 0 ? "<p>None: every answer is the same.</p>" : comparison.worst.map(section).join("\n")}
</html>
`;
}

function section(difference: Difference): string {
  const facts = [
    `line ${difference.line}`,
    `distance ${difference.distance.toFixed(3)}`,
    difference.similarity === null ? null : `similarity ${difference.similarity.toFixed(3)}`,
    difference.format_valid === false ? "no longer JSON" : null,
    ...difference.graders.map(({ old, new: after }) => `score ${old.toFixed(3)} to ${after.toFixed(3)}`),
  ].filter((fact) => fact !== null);
  const after =
    difference.new === null
      ? `<p class="fault">No answer: ${escaped(difference.fault ?? "")}</p>`
      : `<pre>${escaped(difference.new)}</pre>`;
  return `<section>
<h3>${escaped(facts.join(", "))}</h3>
<pre>${escaped(difference.prompt)}</pre>
<div class="pair"><div>old<pre>${escaped(difference.old)}</pre></div><div>new${after}</div></div>
</section>`;
}
