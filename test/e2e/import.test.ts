// A model that leaves one server and comes into another: the same bytes out of it again, the same answers, and a job that goes on from it.
// Then the merged model as a base model of its own.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type OpenAI from "openai";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { ImportedModel } from "../../src/wire/import.ts";
import { tunesmith } from "../cli/fake-server.ts";
import {
  cleanUp,
  JOB_TIMEOUT_MS,
  OPENAI_MODEL,
  serve,
  succeeded,
  temporaryFolder,
  ticketRows,
  tinyHome,
  TINY,
  upload,
} from "./harness.ts";
import type { Connection } from "./harness.ts";

let trained: { connection: Connection; model: string };
let other: Connection;
let otherHome: string;

beforeAll(async () => {
  const connection = await serve(await tinyHome());
  const { client } = connection;
  const training_file = await upload(client, ticketRows(12));
  const job = await client.fineTuning.jobs.create({
    ...{ model: OPENAI_MODEL, training_file, seed: 3, suffix: "desk" },
    method: {
      type: "supervised",
      supervised: { hyperparameters: { n_epochs: 4, batch_size: 4, learning_rate_multiplier: 200 } },
    },
  });
  const { fine_tuned_model } = await succeeded(client, job.id);
  trained = { connection, model: fine_tuned_model ?? "" };
  otherHome = await tinyHome();
  other = await serve(otherHome, { modelAliases: {} });
}, JOB_TIMEOUT_MS);
afterAll(cleanUp);

async function exportTo({ url }: Connection, model: string, format: string, more: string[] = []) {
  const out = join(await temporaryFolder(), format);
  const words = ["export", model, "--format", format, "--out", out, ...more];
  const { code, err } = await tunesmith([...words, "--base-url", `${url}/v1`]);
  expect(err.replace(/^The server makes the files.*\n/, ""), `export as ${format}`).toBe("");
  expect(code).toBe(0);
  return out;
}

async function importFrom({ url }: Connection, path: string, more: string[] = []): Promise<ImportedModel> {
  const words = ["models", "import", path, "--json", ...more, "--base-url", `${url}/v1`];
  const { code, out } = await tunesmith(words);
  expect(out).not.toContain('"error"');
  expect(code).toBe(0);
  return JSON.parse(out) as ImportedModel;
}

/** Greedy answers and their log-probabilities, which agree to the last bit or are of another model. */
async function answers(client: OpenAI, model: string): Promise<unknown[]> {
  const found = [];
  for (const { messages } of ticketRows(5)) {
    const { choices } = await client.chat.completions.create({
      ...{ model, messages: messages.slice(0, 2), temperature: 0, max_completion_tokens: 8 },
      ...{ logprobs: true, top_logprobs: 3 },
    });
    found.push([choices[0]?.message.content, choices[0]?.logprobs?.content]);
  }
  return found;
}

test.each(["peft", "gguf-adapter"])(
  "as %s: out, in on another server, and out again, to the last byte; the same answers there",
  async (format) => {
    const first = await exportTo(trained.connection, trained.model, format);
    const imported = await importFrom(other, first);
    expect(imported).toMatchObject({
      id: expect.stringMatching(/^ft:tiny:personal:desk:/) as string,
      format,
      certificate: { model: trained.model },
      lora: { rank: 8, alpha: 16 },
    });
    const second = await exportTo(other, imported.id, format);
    expect(readdirSync(second)).toEqual(readdirSync(first));
    expect(readdirSync(first)).toContain("certificate.json");
    for (const name of readdirSync(first))
      expect(readFileSync(join(second, name)).equals(readFileSync(join(first, name))), name).toBe(true);
    const expected = await answers(trained.connection.client, trained.model);
    expect(await answers(other.client, imported.id)).toEqual(expected);
    expect(await answers(other.client, TINY)).not.toEqual(expected);
    // In another format it gets a certificate of its own, with what is known of its making.
    const merged = await exportTo(other, imported.id, "merged", ["--precision", "f32"]);
    const read = (folder: string) =>
      JSON.parse(readFileSync(join(folder, "certificate.json"), "utf8")) as Record<string, unknown>;
    const [own, now] = [read(first), read(merged)];
    expect(now).toMatchObject({
      model: imported.id,
      format: "merged",
      recipe: own["recipe"],
      data: own["data"],
    });
    expect((await tunesmith(["verify", merged])).code).toBe(0);
  },
  JOB_TIMEOUT_MS,
);

test(
  "a job goes on from an imported adapter, and begins from an imported whole model",
  async () => {
    const peft = await exportTo(trained.connection, trained.model, "peft");
    const merged = await exportTo(trained.connection, trained.model, "merged", ["--precision", "f32"]);
    const adapter = await importFrom(other, peft, ["--name", "taken over"]);
    expect(adapter.id).toMatch(/^ft:tiny:personal:taken-over:/);
    const whole = await importFrom(other, merged, ["--name", "desk-1"]);
    expect(whole).toMatchObject({ id: "desk-1", kind: "base_model", certificate: { format: "merged" } });
    const texts = async (client: OpenAI, model: string) =>
      (await answers(client, model)).map((each) => (each as [string])[0]);
    expect(await texts(other.client, "desk-1")).toEqual(
      await texts(trained.connection.client, trained.model),
    );
    const training_file = await upload(other.client, ticketRows(12));
    for (const [model, start, named] of [
      [adapter.id, adapter.id, /^ft:tiny:/],
      ["desk-1", undefined, /^ft:desk-1:/],
    ] as const) {
      const job = await other.client.fineTuning.jobs.create({
        ...{ model, training_file, seed: 1 },
        method: { type: "supervised", supervised: { hyperparameters: { n_epochs: 1, batch_size: 4 } } },
      });
      const done = await succeeded(other.client, job.id);
      expect(done.fine_tuned_model).toMatch(named);
      const recipe = JSON.parse(readFileSync(join(otherHome, "jobs", job.id, "job.json"), "utf8")) as {
        initialAdapter?: { model: string };
        lora: { rank: number };
      };
      expect(recipe.initialAdapter?.model).toBe(start);
      expect(recipe.lora.rank).toBe(8);
      expect(await answers(other.client, done.fine_tuned_model ?? "")).not.toEqual(
        await answers(other.client, model),
      );
    }
  },
  JOB_TIMEOUT_MS,
);
