// A job's files judged: in one reading what counting says of them, and what is odd; a broken rule costs the warnings alone.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { countExamples } from "../data/dataset.ts";
import * as checks from "../data/preflight/check-files.ts";
import { DatasetError } from "../errors.ts";
import { createJudge } from "./judge-data.ts";

vi.mock("../data/preflight/check-files.ts", { spy: true });

let folder: string;
const warned: string[] = [];
const judge = createJudge({
  info: () => undefined,
  warn: (details) => void warned.push(JSON.stringify(details)),
  error: () => undefined,
});
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "judge-data-"));
  warned.length = 0;
});
afterEach(async () => {
  vi.restoreAllMocks();
  await rm(folder, { recursive: true });
});

const talk = (user: string) => ({
  messages: [
    { role: "user", content: user },
    { role: "assistant", content: `An answer to "${user}"` },
  ],
});
const TEN = Array.from({ length: 10 }, (_, i) => talk(`Question number ${i}`));

async function save(name: string, rows: readonly object[]): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
  return path;
}

async function judged(training: readonly object[], validation: readonly object[] | null = null) {
  return judge({
    jobId: "ftjob-1",
    method: "supervised",
    trainingFile: await save("training.jsonl", training),
    validationFile: validation === null ? null : await save("validation.jsonl", validation),
    signal: new AbortController().signal,
  });
}

test("examples are counted and oddities told of", async () => {
  expect(await judged(TEN)).toEqual({ examples: 10, warnings: [] });
  const { examples, warnings } = await judged([...TEN, TEN[0] as object], [TEN[1] as object]);
  expect(examples).toBe(11);
  expect(warnings.map(({ kind }) => kind)).toEqual(expect.arrayContaining(["exact_duplicates"]));
});

test("a file that cannot be trained on is refused as counting refuses it, the training file first", async () => {
  const bad = [...TEN, { messages: [] }];
  const refused = judged(bad, [{}]);
  await expect(refused).rejects.toThrow(DatasetError);
  const expected: unknown = await countExamples(join(folder, "training.jsonl"), {
    param: "training_file",
  }).catch((error: unknown) => error);
  await expect(refused).rejects.toEqual(expected);
  await expect(judged(TEN.slice(1))).rejects.toMatchObject({ code: "invalid_n_examples" });
  await expect(judged(TEN, [{}])).rejects.toMatchObject({ param: "validation_file" });
});

test("a fault of a rule is the log's: files are still judged, without warnings", async () => {
  vi.mocked(checks.checkFiles).mockRejectedValue(new TypeError("x is not a function"));
  expect(await judged([...TEN, TEN[0] as object])).toEqual({ examples: 11, warnings: [] });
  expect(warned.join()).toContain("x is not a function");
  await expect(judged(TEN, [{}])).rejects.toMatchObject({ param: "validation_file" });
});
