// `tunesmith check`: the report, its exit codes, a row as the model sees it, and the corrected copy. The model is the tiny one.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, expect, test } from "vitest";
import { makeTinyModel } from "../../scripts/make-tiny-model.ts";
import { preflightObject } from "../../src/wire/preflight.ts";
import { tunesmith } from "./fake-server.ts";

const TRIAGE = fileURLToPath(new URL("../../examples/ticket-triage/train.jsonl", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "tunesmith-check-cli-"));
const TINY = join(folder, "tiny");
await makeTinyModel(TINY);
afterAll(() => rmSync(folder, { recursive: true }));

const row = (question: string, answer: string) =>
  `{"messages":[{"role":"user","content":"${question}"},{"role":"assistant","content":"${answer}"}]}`;

function file(name: string, lines: readonly string[]): string {
  const path = join(folder, name);
  writeFileSync(path, `${lines.join("\n")}\n`);
  return path;
}

const good = Array.from({ length: 10 }, (_, i) => row(`Question ${i}`, `The answer ${i}`));

test("good data: exit code 0, tokens and cost of the model", async () => {
  const { code, out, err } = await tunesmith(["check", TRIAGE, "--model", TINY, "--epochs", "2"]);
  expect({ code, err }).toEqual({ code: 0, err: "" });
  expect(out).toContain("440 examples\nA job on this data would start; 0 warnings, 0 notes.");
  expect(out).toMatch(/of them with loss +\d+ to \d+, median/);
  expect(out).toContain("end token learnt   from 440 of 440 rows");
  expect(out).toMatch(/steps +880 \(2 epochs, batch size 1\)/);
  expect(out).toMatch(/the same at OpenAI +gpt-4\.1-2025-04-14 \$/);
});

test("bad data: exit code 1, every error with what to do", async () => {
  const path = file("bad.jsonl", [...good, row("x", "y").replace('"y"', "7"), "nope"]);
  const { code, out } = await tunesmith(["check", path, "--model", TINY]);
  expect(code).toBe(1);
  expect(out).toContain("A job on this data would fail: 2 errors");
  expect(out).toContain(
    "  Line 11, message 2 has content 7, expected a text or a list of text parts.\n    → ",
  );
  expect(out).toContain("  Line 12 is not valid JSON");
});

test("--json is the object that the server answers with", async () => {
  const [training, validation] = [file("t.jsonl", good), file("v.jsonl", [row("question 1", "no")])];
  const { code, out } = await tunesmith(["check", training, validation, "--model", TINY, "--json"]);
  expect(code).toBe(0);
  const report = preflightObject.parse(JSON.parse(out));
  expect(report).toMatchObject({ base_model: "tiny", trainable: true, fault_count: 0 });
  expect(report.findings).toMatchObject([
    { kind: "leakage", param: "validation_file", places: [{ line: 1 }] },
  ]);
  // Contract §7.4: an example is 1 + 3 a message and the tokens of role and content.
  expect(report.cost?.trained_tokens).toBe(
    (report.files[0]?.tokens?.trained_tokens_per_epoch ?? NaN) * (report.cost?.n_epochs ?? NaN),
  );
});

test("--measure times steps on this machine", async () => {
  const args = ["check", file("m.jsonl", good), "--model", TINY, "--measure", "--json"];
  const { out } = await tunesmith(args);
  expect(preflightObject.parse(JSON.parse(out)).cost).toMatchObject({ seconds_from: "measured" });
});

test("a row cut before its answer is an error, a row cut in its answer a warning that quotes what is lost", async () => {
  const long = "word ".repeat(5_000);
  const path = file("long.jsonl", [row(long, "never seen"), row("Tell me", `${long}the end`), ...good]);
  const { code, out } = await tunesmith(["check", path, "--model", TINY, "--json"]);
  expect(code).toBe(1);
  const report = preflightObject.parse(JSON.parse(out));
  expect(report.faults).toMatchObject([{ line: 1 }]);
  expect(report.faults[0]?.message).toContain("before the answer it should teach");
  const cut = report.findings.find(({ kind }) => kind === "truncated_rows");
  expect(cut).toMatchObject({ count: 1, places: [{ line: 2 }] });
  expect(cut?.places[0]?.detail).toMatch(/^\d+ of \d+ tokens, from ".*word/);
  expect(report.files[0]?.tokens).toMatchObject({
    truncated_rows: 1,
    end_token_rows: 10,
    per_row: { count: 11 },
  });
});

test("--show marks what carries loss, and only that, and lets no control character through", async () => {
  const path = file("show.jsonl", [row("Hi \\u001b[31m", "Hello"), ...good]);
  const { code, out } = await tunesmith(["check", path, "--model", TINY, "--show", "1"]);
  expect(code).toBe(0);
  const marked = [...out.matchAll(/⟦([^⟧]*)⟧/g)].map(([, text = ""]) => text.replaceAll("|", ""));
  expect(marked).toHaveLength(1);
  expect(marked[0]).toMatch(/^Hello/);
  expect(out).not.toContain("\u001b");
  expect(out).toMatch(/Line 1: \d+ tokens, \d+ of them with loss/);
});

test("--html writes a page in which the file's text is text", async () => {
  const page = join(folder, "row.html");
  const path = file("html.jsonl", [row("<script>alert(1)</script>", "Hello"), ...good]);
  const { code } = await tunesmith(["check", path, "--model", TINY, "--show", "1", "--html", page]);
  expect(code).toBe(0);
  const html = readFileSync(page, "utf8");
  expect(html).toContain('<span class="loss">');
  expect(html).toContain("&lt;");
  expect(html).not.toMatch(/<span[^>]*>[^<]*<(?!\/span>)/);
});

test("--fix writes a copy that checks, and says what it changed", async () => {
  const path = file("fix.jsonl", [...good, "", row("a", "b").replace('"user"', '"human"')]);
  const target = join(folder, "fixed.jsonl");
  const { code, out } = await tunesmith(["check", path, "--fix", target]);
  expect(code).toBe(0);
  expect(out).toBe(
    `Line 12: message 1: wrote role "human" as "user".\nLeft out 1 blank line.\nWrote 11 lines to ${target}, 1 of them changed.\n`,
  );
  expect((await tunesmith(["check", target, "--model", TINY])).code).toBe(0);
});

test("--fix mends preference pairs too", async () => {
  const path = file("pairs.jsonl", [JSON.stringify({ prompt: "a", chosen: "b", rejected: "c" })]);
  const target = join(folder, "fixed-pairs.jsonl");
  const { code, out } = await tunesmith(["check", path, "--method", "dpo", "--fix", target]);
  expect({ code, out }).toEqual({
    code: 0,
    out:
      "Line 1: wrote prompt, chosen and rejected as input, preferred_output and non_preferred_output.\n" +
      `Wrote 1 lines to ${target}, 1 of them changed.\n`,
  });
});

test("--fix never writes over the file itself", async () => {
  const path = file("same.jsonl", good);
  const { code, err } = await tunesmith(["check", path, "--fix", path]);
  expect(code).toBe(2);
  expect(err).toContain("is the file itself");
  expect(readFileSync(path, "utf8")).toBe(`${good.join("\n")}\n`);
});

test.each([
  { words: ["check"], says: "missing required argument 'training-file'" },
  { words: ["check", "no-such.jsonl"], says: "expected a file, found nothing of that name" },
  { words: ["check", folder], says: "expected a file, found a folder" },
  { words: ["check", TRIAGE, "--show", "1", "--rejected"], says: "it needs --method dpo" },
  { words: ["check", TRIAGE, "--html", "x.html"], says: "--show <line>" },
])("$words ends with 2", async ({ words, says }) => {
  const { code, err } = await tunesmith(words);
  expect(err).toContain(says);
  expect(code).toBe(2);
});

test.each([
  { line: "99", says: "There is no line 99" },
  { line: "1", says: "Line 1 cannot be shown: it is not valid JSON" },
])("--show $line of a file without it", async ({ line, says }) => {
  const { code, err } = await tunesmith([
    ...["check", file("nothing.jsonl", ["nope", ...good]), "--model", TINY],
    ...["--show", line],
  ]);
  expect(err).toContain(says);
  expect(code).toBe(1);
});
