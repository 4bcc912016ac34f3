// `tunesmith migrate openai pull --from`: the folder of a pull from files saved by hand, without a key and without a network.
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test, vi } from "vitest";
import { tunesmith } from "../cli/fake-server.ts";
import type { PullSummary } from "../../src/migrate/pull.ts";
import { job, OLD_MODEL, rows, temporaryFolder } from "./world.ts";

type Contents = Record<string, string | object>;

async function pullFrom(contents: Contents) {
  vi.stubEnv("OPENAI_API_KEY", "");
  const folder = temporaryFolder();
  const saved = join(folder, "saved");
  mkdirSync(saved);
  for (const [name, content] of Object.entries(contents))
    writeFileSync(join(saved, name), typeof content === "string" ? content : JSON.stringify(content));
  const out = join(folder, "moved");
  const run = () => tunesmith(["migrate", "openai", "pull", "--from", saved, "--out", out, "--json"]);
  const { code, out: printed } = await run();
  return { code, printed, run, saved, out };
}

const jobsIn = (out: string) =>
  readdirSync(join(out, "jobs")).map(
    (name) =>
      (JSON.parse(readFileSync(join(out, "jobs", name), "utf8")) as { job: Record<string, unknown> }).job,
  );

test("the least: data, and a job of two members", async () => {
  const { code, out, run } = await pullFrom({
    "train.jsonl": rows(12),
    "tickets.job.json": { training_file: "train.jsonl", fine_tuned_model: OLD_MODEL },
  });
  expect(code).toBe(0);
  const [made] = jobsIn(out);
  expect(made).toMatchObject({
    object: "fine_tuning.job",
    status: "succeeded",
    model: "gpt-4o-mini-2024-07-18",
    fine_tuned_model: OLD_MODEL,
    method: { type: "supervised" },
  });
  expect(readFileSync(join(out, "files", `${String(made?.["training_file"])}.jsonl`), "utf8")).toBe(rows(12));
  const before = readFileSync(join(out, "manifest.json"), "utf8");
  expect((await run()).code).toBe(0);
  const after = readFileSync(join(out, "manifest.json"), "utf8");
  expect(after.replace(/"updated_at": \d+/, "")).toBe(before.replace(/"updated_at": \d+/, ""));
});

test("a job as OpenAI shows it, with its data by id; result files are not asked for", async () => {
  const { code, out } = await pullFrom({
    "file-train.jsonl": rows(12),
    "file-valid.jsonl": rows(4),
    "sft.job.json": job("ftjob-sft", { validation_file: "file-valid", result_files: ["file-result"] }),
    "notes.txt": "not read",
  });
  expect(code).toBe(0);
  expect(jobsIn(out)[0]).toMatchObject({ id: "ftjob-sft", seed: 7, result_files: [] });
});

test("the same data for two jobs is one file", async () => {
  const { out, printed } = await pullFrom({
    "a.jsonl": rows(12),
    "b.jsonl": rows(12),
    "one.job.json": { training_file: "a.jsonl", model: "gpt-4o-2024-08-06" },
    "two.job.json": {
      training_file: "b.jsonl",
      model: "gpt-4o-2024-08-06",
      method: "dpo",
      hyperparameters: { beta: 0.1 },
    },
  });
  expect((JSON.parse(printed) as PullSummary).counts).toMatchObject({
    job: { done: 2 },
    file: { done: 1 },
  });
  expect(readdirSync(join(out, "files"))).toHaveLength(1);
});

test.each<[string, Contents, RegExp]>([
  ["no data", { "a.txt": "x" }, /has no data/],
  [
    "data that is not there",
    { "a.jsonl": rows(1), "j.job.json": { training_file: "b.jsonl", model: "m" } },
    /names the data "b\.jsonl", which is not beside it/,
  ],
  [
    "data that climbs out",
    { "a.jsonl": rows(1), "j.job.json": { training_file: "../../etc/passwd", model: "m" } },
    /not beside it/,
  ],
  [
    "a job without a base",
    { "a.jsonl": rows(1), "j.job.json": { training_file: "a.jsonl" } },
    /needs "model" or "fine_tuned_model"/,
  ],
  [
    "a misspelt member",
    { "a.jsonl": rows(1), "j.job.json": { training_file: "a.jsonl", model: "m", epochs: 3 } },
    /epochs/,
  ],
  [
    "a misspelt hyperparameter",
    {
      "a.jsonl": rows(1),
      "j.job.json": { training_file: "a.jsonl", model: "m", hyperparameters: { epochs: 3 } },
    },
    /"hyperparameters": .*epochs/,
  ],
  [
    "beta of a supervised job",
    {
      "a.jsonl": rows(1),
      "j.job.json": { training_file: "a.jsonl", model: "m", hyperparameters: { beta: 1 } },
    },
    /belongs to the method dpo/,
  ],
  ["a job that is no JSON", { "a.jsonl": rows(1), "j.job.json": "{" }, /is no JSON/],
])("%s is refused before anything is written", async (_name, contents, message) => {
  const { code, out, printed } = await pullFrom(contents);
  expect(code).toBe(2);
  expect((JSON.parse(printed) as { error: { message: string } }).error.message).toMatch(message);
  expect(readdirSync(join(out, "..")).sort()).toEqual(["saved"]);
});

test("a link and a folder that is not there are refused", async () => {
  const { saved, run } = await pullFrom({ "a.jsonl": rows(1) });
  symlinkSync("/etc/passwd", join(saved, "b.jsonl"));
  expect((await run()).out).toContain("is no plain file");
  const missing = await tunesmith([
    "migrate",
    "openai",
    "pull",
    "--from",
    join(saved, "no"),
    "--out",
    join(saved, "o"),
  ]);
  expect([missing.code, missing.err]).toEqual([2, expect.stringContaining("Cannot read the folder")]);
});
