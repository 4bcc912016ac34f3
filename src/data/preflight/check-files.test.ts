import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { checkFiles } from "./check-files.ts";
import type { DataReport } from "./report.ts";

const folder = mkdtempSync(join(tmpdir(), "tunesmith-check-"));
afterAll(() => rmSync(folder, { recursive: true }));

type Turn = [question: string, answer: string, system?: string];

function line([question, answer, system]: Turn): string {
  return JSON.stringify({
    messages: [
      ...(system === undefined ? [] : [{ role: "system", content: system }]),
      { role: "user", content: question },
      { role: "assistant", content: answer },
    ],
  });
}

let files = 0;
function file(lines: readonly (Turn | string)[]): string {
  const path = join(folder, `${++files}.jsonl`);
  writeFileSync(path, lines.map((each) => (typeof each === "string" ? each : line(each))).join("\n"));
  return path;
}

const check = (training: readonly (Turn | string)[], validation?: readonly (Turn | string)[]) =>
  checkFiles({
    trainingFile: file(training),
    validationFile: validation === undefined ? null : file(validation),
  });

/** Each kind with its first lines. */
const found = ({ findings }: DataReport) =>
  Object.fromEntries(findings.map(({ kind, places }) => [kind, places.map((place) => place.line)]));

/** Rows nobody could complain about. */
const fine = (count: number, from = 0): Turn[] =>
  Array.from({ length: count }, (_, i) => [`Question ${i + from}?`, `The answer is number ${i + from}.`]);

const LONG =
  "the quick brown fox jumps over a lazy dog while seven grey geese fly south along the river and nobody in the village below looks up from the long table where bread and soup are served to all who come";

describe("checkFiles", () => {
  it("finds nothing in sound data, and describes it", async () => {
    const report = await check(fine(12), fine(3, 100));
    expect(report).toMatchObject({ faults: [], faultCount: 0, findings: [], limits: [] });
    expect(report.files[0]).toMatchObject({
      file: "training_file",
      examples: 12,
      badLines: 0,
      messagesPerRow: { min: 2, median: 2, max: 2, mean: 2 },
      labels: null,
      tokens: null,
    });
    expect(report.files[1]).toMatchObject({ file: "validation_file", examples: 3 });
  });

  it("lists every fault, far beyond what a job's message names, in parts", async () => {
    const report = await check([...fine(10), ...Array.from({ length: 50 }, () => '{"messages": 7}')]);
    expect(report.faultCount).toBe(50);
    expect(report.faults).toHaveLength(50);
    expect(report.faults[49]).toEqual({
      file: "training_file",
      line: 60,
      message: null,
      text: "Line 60 has messages 7, expected a list of at least one message.",
      found: "messages 7",
      expected: "a list of at least one message",
      fix: "write a list of at least one message",
    });
  });

  it("names too few examples once no line is wrong", async () => {
    const report = await check(fine(3));
    expect(report.faults).toMatchObject([{ line: null }]);
    expect(report.faults[0]?.text).toMatch(/3 example\(s\).*at least 10/);
  });

  it("tells a file in another format from one with many faults", async () => {
    const pair = '{"prompt":"a","completion":"b"}';
    const report = await check(Array.from({ length: 12 }, () => pair));
    expect(report.faults[0]?.text).toContain("prompt/completion pairs");
  });

  it("finds exact and near duplicates, the near ones only where the answer is the same too", async () => {
    const other = LONG.replace("seven", "eight");
    const report = await check([
      ...fine(10),
      ["Question 3?", "The answer is number 3."],
      [LONG, "Yes it is."],
      [other, "Yes it is."],
      [`${other} today`, "Not at all."],
    ]);
    expect(found(report)).toEqual({ exact_duplicates: [11], near_duplicates: [13] });
    expect(report.findings.find(({ kind }) => kind === "exact_duplicates")?.places[0]?.detail).toBe(
      "line 4 again",
    );
  });

  it("finds the same short question with another short answer, whatever the letter case", async () => {
    const report = await check([
      ...fine(10),
      ["Is it  open?", "yes"],
      ["is it open?", "no"],
      ["is it open?", "Yes"],
    ]);
    expect(found(report)).toMatchObject({ conflicting_answers: [12] });
  });

  it("lets long answers differ", async () => {
    const report = await check([
      ...fine(10),
      ["Tell me a story", LONG],
      ["Tell me a story", LONG.split(" ").reverse().join(" ")],
    ]);
    expect(found(report)).toEqual({});
  });

  it("finds validation rows that training has seen", async () => {
    const report = await check(
      [...fine(10), [LONG, "Yes it is."]],
      [
        ["question 4?", "Something else."],
        [LONG.replace("seven", "eight"), "Yes it is."],
        ["Never seen", "Never"],
      ],
    );
    expect(found(report)).toEqual({ leakage: [1], near_leakage: [2] });
  });

  it("counts labels, and names rare ones and other spellings", async () => {
    const rows = (label: string, count: number, from: number): Turn[] =>
      Array.from({ length: count }, (_, i) => [`Ticket ${from + i}`, label]);
    const report = await check([
      ...rows("billing", 20, 0),
      ...rows("shipping", 20, 100),
      ...rows("Billing", 10, 200),
      ...rows("returns", 3, 300),
    ]);
    expect(report.files[0]?.labels).toEqual([
      { label: "billing", count: 20 },
      { label: "shipping", count: 20 },
      { label: "Billing", count: 10 },
      { label: "returns", count: 3 },
    ]);
    expect(found(report)).toEqual({ label_variants: [41], rare_labels: [51] });
  });

  it("finds JSON answers that disagree, and lets null stand for any type", async () => {
    const rows = Array.from({ length: 40 }, (_, i): Turn => [`Order ${i}`, `{"id":"${i}","urgent":false}`]);
    const report = await check([
      ...rows,
      ["Order a", '{"id":null,"urgent":true}'],
      ["Order b", '{"id":7,"urgent":true}'],
      ["Order c", '{"id":"8"}'],
      ["Order d", '{"id":"9","urgent":true'],
    ]);
    expect(found(report)).toEqual({ json_shapes: [42, 43], json_broken: [44] });
    const shapes = report.findings.find(({ kind }) => kind === "json_shapes");
    expect(shapes?.places.map(({ detail }) => detail)).toEqual([
      'has a number at "id", elsewhere a text',
      'lacks "urgent"',
    ]);
  });

  it("takes no type for wrong where most have null", async () => {
    const report = await check(
      Array.from({ length: 40 }, (_, i): Turn => [
        `Order ${i}`,
        `{"id":${i < 4 ? `"${i}"` : "null"},"n":${i}}`,
      ]),
    );
    expect(found(report)).toEqual({});
  });

  it("finds empty answers, forgotten system messages and other wordings of one", async () => {
    const rows = Array.from({ length: 40 }, (_, i): Turn => [
      `Question ${i}?`,
      `The answer is number ${i}.`,
      "You are brief.",
    ]);
    const report = await check([
      ...rows,
      ["Question a?", "  ", "You are brief."],
      ["Question b?", "The answer is b."],
      ["Question c?", "The answer is c.", "you are brief"],
    ]);
    expect(found(report)).toEqual({
      empty_answers: [41],
      missing_system_prompts: [42],
      system_prompt_variants: [43],
    });
  });

  it("finds an answer in another language, unless it was asked for", async () => {
    const english = "It is the answer that you have to give to all of them with care and for the best of it";
    const german =
      "Das ist die Antwort, die nicht mit dem Kopf, sondern auf dem Papier für sich und den Leser von Wert ist";
    const rows = Array.from({ length: 40 }, (_, i): Turn => [`Question ${i}?`, `${i}: ${english} ${i}`]);
    const report = await check([...rows, ["And this?", german], ["In German, please", `${german} heute`]]);
    expect(found(report)).toEqual({ mixed_languages: [41] });
  });

  it("gives the same report twice", async () => {
    const lines = [...fine(10), ...fine(5), [LONG, "a"] satisfies Turn];
    expect(await check(lines)).toEqual(await check(lines));
  });

  it("stops when asked to", async () => {
    const stop = new AbortController();
    stop.abort();
    await expect(checkFiles({ trainingFile: file(fine(10)), signal: stop.signal })).rejects.toThrow(
      "cancelled",
    );
  });
});
