// Models over HTTP: what is listed, what stands behind a name, and deleting for good.
import { mkdir, readdir, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { expect, test } from "vitest";
import { modelObject } from "../../src/wire/models.ts";
import { BASE_MODEL, succeedJob, testServer, upload } from "./harness.ts";
import type { TestServer } from "./harness.ts";

async function fineTuned(server: TestServer) {
  const { id } = await upload(server);
  const job = await server.app.inject({
    method: "POST",
    url: "/v1/fine_tuning/jobs",
    payload: { model: "gpt-4.1-mini", training_file: id, suffix: "a" },
  });
  const jobId = job.json<{ id: string }>().id;
  return { jobId, ...(await succeedJob(server, jobId)) };
}

test("the list holds fine-tuned models, OpenAI's names and base models, and says what stands behind each", async () => {
  const server = await testServer();
  const { model, checkpoint } = await fineTuned(server);
  const list = (await server.app.inject("/v1/models")).json<{ object: string; data: unknown[] }>();
  expect(Object.keys(list).sort()).toEqual(["data", "object"]);
  const models = list.data.map((each) => modelObject.strict().parse(each));
  const names = models.map(({ id }) => id);
  expect(names.slice(0, 2)).toEqual([model, checkpoint]);
  expect(names).toEqual(
    expect.arrayContaining([BASE_MODEL, "gpt-4o-mini", "gpt-4o-mini-2024-07-18", "gpt-3.5-turbo-0125"]),
  );
  const bases = new Set(models.map((each) => each.tunesmith?.base_model));
  expect(bases).toEqual(new Set([BASE_MODEL, "all-minilm-l6-v2"]));
  expect(models[0]).toMatchObject({ object: "model", owned_by: "personal", shutdown_date: null });
});

test.each([
  ["raw", (id: string) => id],
  ["percent-encoded", encodeURIComponent],
])("a fine-tuned model is found by its %s name", async (_name, write) => {
  const server = await testServer();
  const { model, checkpoint } = await fineTuned(server);
  for (const id of [model, checkpoint]) {
    const answer = await server.app.inject(`/v1/models/${write(id)}`);
    expect(answer.json()).toMatchObject({ id, object: "model", owned_by: "personal" });
  }
});

test("a deleted model is gone from lists, from chat and from the disk, also after a restart", async () => {
  const server = await testServer();
  const { model, jobId } = await fineTuned(server);
  const adapter = join(server.home, "jobs", jobId, "finalAAA");
  await mkdir(adapter, { recursive: true });
  await writeFile(join(adapter, "adapter_model.safetensors"), "weights");
  const deleted = await server.app.inject({ method: "DELETE", url: `/v1/models/${model}` });
  expect(deleted.json()).toEqual({ id: model, object: "model", deleted: true });
  expect(server.engine.forgotten).toEqual([model]);
  expect(await readdir(join(server.home, "jobs", jobId))).not.toContain("finalAAA");
  const expectGone = async (each: TestServer): Promise<void> => {
    const retrieved = await each.app.inject(`/v1/models/${model}`);
    expect(retrieved.statusCode).toBe(404);
    expect(retrieved.json()).toEqual({
      error: {
        message: `The model '${model}' does not exist`,
        type: "invalid_request_error",
        param: "model",
        code: "model_not_found",
      },
    });
    const chat = await each.app.inject({
      method: "POST",
      url: "/v1/chat/completions",
      payload: { model, messages: [{ role: "user", content: "Hi" }] },
    });
    expect(chat.statusCode).toBe(404);
    expect((await each.app.inject({ method: "DELETE", url: `/v1/models/${model}` })).statusCode).toBe(404);
  };
  await expectGone(server);
  await server.stop();
  await expectGone(await testServer({ homeDirectory: server.home }));
});

test("a second server on the same home folder is refused", async () => {
  const server = await testServer();
  await expect(testServer({ homeDirectory: server.home })).rejects.toThrow(
    /^Another server \(process \d+ on .*\) uses the folder /,
  );
});

test("an alias cannot have the name of a base model", async () => {
  const homeDirectory = join(tmpdir(), "tunesmith-never-made");
  await expect(testServer({ homeDirectory, modelAliases: { "qwen3-0.6b": BASE_MODEL } })).rejects.toThrow(
    `TUNESMITH_MODEL_ALIASES: 'qwen3-0.6b' is the name of a base model and cannot stand for '${BASE_MODEL}'. Take another name for the alias.`,
  );
});

test("an alias that leads to nothing is named in the log", async () => {
  const lines: string[] = [];
  const logger = pino({ level: "warn" }, { write: (line: string) => lines.push(line) });
  const modelAliases = {
    short: "long",
    long: BASE_MODEL,
    here: import.meta.dirname,
    misspelt: "smollm2-135m",
    nowhere: "/no/such/model",
  };
  await testServer({ modelAliases }, { logger });
  expect(lines.map((line) => JSON.parse(line) as unknown)).toMatchObject([
    {
      alias: "misspelt",
      model: "smollm2-135m",
      msg: expect.stringMatching(/^This alias stands for/) as string,
    },
    { alias: "nowhere", model: "/no/such/model" },
  ]);
});

test("a base model cannot be deleted", async () => {
  const server = await testServer();
  const answer = await server.app.inject({ method: "DELETE", url: "/v1/models/gpt-4o-mini" });
  expect(answer.statusCode).toBe(403);
  expect(answer.json()).toMatchObject({
    error: {
      message: "The model 'gpt-4o-mini' is a base model. Only fine-tuned models (ft:…) can be deleted.",
    },
  });
});
