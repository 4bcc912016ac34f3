// A model on another base without starting over: the taco-bot's data and recipe replayed on a model of another family, both scored on the
// same rows, and an alias that moves only through the gate. By the command line, against a server with tiny models.
import { readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { RebaseReport } from "../../src/migrate/rebase.ts";
import { modelDirectory } from "../../src/model/resolve-base-model.ts";
import type { LineageObject } from "../../src/wire/lineage.ts";
import { tunesmith } from "../cli/fake-server.ts";
import { makeTinyQwen3 } from "../tiny-qwen3.ts";
import {
  cleanUp,
  JOB_TIMEOUT_MS,
  serve,
  succeeded,
  temporaryFolder,
  tinyHome,
  TINY,
  upload,
} from "./harness.ts";
import type { Connection } from "./harness.ts";

const QWEN = "tiny-qwen3";
const tacoRows = (file: string, count: number): object[] =>
  readFileSync(join(import.meta.dirname, "../../examples/taco-bot", file), "utf8")
    .trim()
    .split("\n")
    .slice(0, count)
    .map((line) => JSON.parse(line) as object);

let connection: Connection;
let old: { model: string; trainingFile: string; job: string };

beforeAll(async () => {
  const home = await tinyHome();
  await makeTinyQwen3(modelDirectory(home, QWEN));
  connection = await serve(home, { modelAliases: {} });
  const { client } = connection;
  const training_file = await upload(client, tacoRows("train.jsonl", 24), "tacos.jsonl");
  const job = await client.fineTuning.jobs.create({
    ...{ model: TINY, training_file, seed: 5, suffix: "tacos", metadata: { team: "kitchen" } },
    validation_file: await upload(client, tacoRows("held-out.jsonl", 12), "held-out.jsonl"),
    method: {
      type: "supervised",
      supervised: { hyperparameters: { n_epochs: 2, batch_size: 4, learning_rate_multiplier: 3 } },
    },
  });
  const { fine_tuned_model } = await succeeded(client, job.id);
  old = { model: fine_tuned_model ?? "", trainingFile: training_file, job: job.id };
  await run("alias", "set", "tacos", old.model);
}, JOB_TIMEOUT_MS);
afterAll(cleanUp);

async function run(...words: string[]) {
  return tunesmith([...words, "--base-url", `${connection.url}/v1`]);
}

const aliased = async (): Promise<string> =>
  (JSON.parse((await run("alias", "show", "tacos", "--json")).out) as { model: string }).model;

test(
  "a gate that is not passed leaves the alias, one that is moves it, and the job is trained once",
  async () => {
    // Two tiny models know nothing: no row shows that the new one is better, which is what a margin of 0 asks for.
    const refused = await run(
      "rebase",
      "tacos",
      "--base",
      QWEN,
      "--alias",
      "tacos",
      "--margin",
      "0",
      "--json",
    );
    // Standard output is the report alone.
    expect([refused.code, refused.err]).toEqual([1, expect.stringContaining("Training 16384 parameters")]);
    const report = JSON.parse(refused.out) as RebaseReport;
    expect(report).toMatchObject({
      ...{ old_model: old.model, old_base: TINY, new_base: QWEN, rows: 12, passes: false },
      alias: { id: "tacos", moved: false },
    });
    expect(report.measures.map(({ name }) => name)).toEqual(["exact match"]);
    expect(await aliased()).toBe(old.model);

    const passed = await run("rebase", "tacos", "--base", QWEN, "--alias", "tacos", "--margin", "0.9");
    expect(passed.code, passed.err).toBe(0);
    expect(passed.err).toContain(`was trained on ${QWEN} already, as ${report.job}`);
    expect(passed.out).toContain("The gate is passed");
    expect(await aliased()).toBe(report.new_model);
    const answer = await connection.client.chat.completions.create({
      ...{ model: "tacos", messages: [{ role: "user", content: "Two tacos" }], max_completion_tokens: 2 },
    });
    expect(answer.model).toBe(report.new_model);

    const job = await connection.client.fineTuning.jobs.retrieve(report.job);
    expect(job).toMatchObject({
      ...{ training_file: old.trainingFile, seed: 5 },
      metadata: { team: "kitchen", tunesmith_rebased_from: old.model },
    });
    expect(job.method?.supervised?.hyperparameters).toMatchObject({ n_epochs: 2, batch_size: 4 });
    // The base's own, not the old one's 3.
    expect(job.method?.supervised?.hyperparameters?.learning_rate_multiplier).not.toBe(3);
  },
  JOB_TIMEOUT_MS,
);

test(
  "graders and held-out rows of the user's decide too",
  async () => {
    const folder = await temporaryFolder();
    const grader = join(folder, "grader.json");
    const check = {
      type: "string_check",
      name: "says it",
      input: "{{sample.output_text}}",
      operation: "like",
    };
    await writeFile(grader, JSON.stringify({ ...check, reference: "{{item.reference}}" }));
    const rows = join(folder, "rows.jsonl");
    const chat = (content: string) => ({
      messages: [
        { role: "user", content: "Hi" },
        { role: "assistant", content },
      ],
    });
    await writeFile(rows, `${JSON.stringify(chat("Hello"))}\n${JSON.stringify(chat("Good day"))}\n`);
    const words = ["rebase", old.model, "--base", QWEN, "--held-out", rows, "--grader", grader, "--json"];
    const report = JSON.parse((await run(...words)).out) as RebaseReport;
    expect(report.rows).toBe(2);
    expect(report.measures.map(({ name }) => name)).toEqual(["exact match", "says it"]);
    await writeFile(rows, '{"messages":[{"role":"user","content":"Hi"}]}\n');
    const bad = await run(...words);
    expect([bad.code, bad.err + bad.out]).toEqual([2, expect.stringContaining("line 1: expected a chat")]);
  },
  JOB_TIMEOUT_MS,
);

test(
  "the lineage tells of data, recipe, aliases and where a model was rebased from; deleted data leaves its hash",
  async () => {
    const { client, url } = connection;
    const jobs = (await client.fineTuning.jobs.list()).data;
    const rebased = jobs.find(({ id }) => id !== old.job)?.fine_tuned_model ?? "";
    const show = async (model: string) =>
      JSON.parse((await run("models", "show", model, "--json")).out) as LineageObject;
    expect(await show(rebased)).toMatchObject({
      ...{
        kind: "fine_tuned",
        base_model: QWEN,
        rebased_from: old.model,
        parent: null,
        method: "supervised",
      },
      aliases: [{ id: "tacos", role: "model" }],
      training_file: { id: old.trainingFile, filename: "tacos.jsonl", available: true },
    });
    await run("export", old.model, "--format", "peft", "--out", join(await temporaryFolder(), "out"));
    await client.files.delete(old.trainingFile);
    const lineage = await show(old.model);
    expect(lineage.training_file).toMatchObject({ id: old.trainingFile, filename: null, available: false });
    expect(lineage.training_file?.sha256).toMatch(/^[0-9a-f]{64}$/);
    expect(lineage.exports).toMatchObject([{ format: "peft", precision: null, by: "owner" }]);
    expect(JSON.stringify(lineage)).not.toContain("/models/");
    const markdown = (await run("models", "show", old.model)).out;
    expect(markdown).toContain(`# ${old.model}\n`);
    expect(markdown).toContain("**deleted or expired**, sha256 `");

    const gone = await fetch(`${url}/tunesmith/models/${old.model}/rebase`, {
      ...{
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ base: TINY }),
      },
    });
    expect([gone.status, await gone.text()]).toEqual([409, expect.stringContaining("data_gone")]);
  },
  JOB_TIMEOUT_MS,
);

test("what cannot be rebased says why", async () => {
  const refusals: [string[], number, string][] = [
    [["rebase", old.model, "--base", TINY], 2, "is on tiny already"],
    [["rebase", TINY, "--base", QWEN], 1, "is a base model"],
    [["rebase", "ft:none:x::12345678", "--base", QWEN], 1, "does not exist"],
    [["rebase", old.model, "--base", QWEN, "--margin", "2"], 2, "--margin"],
  ];
  for (const [words, code, text] of refusals) {
    const answer = await run(...words);
    expect([answer.code, answer.err], words.join(" ")).toEqual([code, expect.stringContaining(text)]);
  }
});
