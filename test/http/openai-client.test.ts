// The official `openai` client against a listening server: what counts is what it hands to its user.
import OpenAI, { toFile } from "openai";
import { expect, test } from "vitest";
import { BASE_MODEL, succeedJob, testServer } from "./harness.ts";
import type { TestServer } from "./harness.ts";

const KEY = "sk-local-0123456789-abcdefgh";

async function connected(apiKey = KEY): Promise<{ server: TestServer; client: OpenAI }> {
  const server = await testServer({ apiKeys: [KEY] });
  const url = await server.listen();
  return { server, client: new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 2 }) };
}

const uploaded = async (client: OpenAI, text = '{"messages":[]}\n', name = "train.jsonl") =>
  client.files.create({ file: await toFile(Buffer.from(text), name), purpose: "fine-tune" });

test("files: create, wait, list, retrieve, content, delete while listing", async () => {
  const { client } = await connected();
  const file = await uploaded(client, "Zeile\n", "übung 1.jsonl");
  expect(file).toMatchObject({ filename: "übung 1.jsonl", bytes: 7 - 1, purpose: "fine-tune" });
  expect(file._request_id).toMatch(/^req_[0-9a-f]{32}$/);
  expect((await client.files.waitForProcessing(file.id, { pollInterval: 10 })).status).toBe("processed");
  expect((await client.files.retrieve(file.id)).id).toBe(file.id);
  expect(await (await client.files.content(file.id)).text()).toBe("Zeile\n");
  await uploaded(client);
  await uploaded(client);
  let seen = 0;
  for await (const each of client.files.list({ limit: 1 })) {
    expect((await client.files.delete(each.id)).deleted).toBe(true);
    seen += 1;
  }
  expect(seen).toBe(3);
});

test("jobs: create, retrieve, list, events, checkpoints, cancel", async () => {
  const { server, client } = await connected();
  const file = await uploaded(client);
  const job = await client.fineTuning.jobs.create({
    model: "gpt-4o-mini-2024-07-18",
    training_file: file.id,
    suffix: "taco",
    seed: 1,
    method: { type: "supervised", supervised: { hyperparameters: { n_epochs: 2 } } },
    metadata: { a: "b" },
  });
  expect(job).toMatchObject({ status: "validating_files", model: "gpt-4o-mini-2024-07-18", seed: 1 });
  const { model } = await succeedJob(server, job.id);
  expect((await client.fineTuning.jobs.retrieve(job.id)).fine_tuned_model).toBe(model);
  const messages: string[] = [];
  for await (const event of client.fineTuning.jobs.listEvents(job.id, { limit: 1 }))
    messages.push(event.message);
  expect(messages).toEqual([
    "The job has successfully completed",
    `New fine-tuned model created: ${model}`,
    `Training ${BASE_MODEL} in place of gpt-4o-mini-2024-07-18`,
    `Created fine-tuning job: ${job.id}`,
  ]);
  const steps: number[] = [];
  for await (const each of client.fineTuning.jobs.checkpoints.list(job.id, { limit: 1 }))
    steps.push(each.step_number);
  expect(steps).toEqual([20, 10]);
  const second = await client.fineTuning.jobs.create({ model: "gpt-4o", training_file: file.id });
  expect((await client.fineTuning.jobs.cancel(second.id)).status).toBe("cancelled");
  const ids: string[] = [];
  for await (const each of client.fineTuning.jobs.list({ limit: 1 })) ids.push(each.id);
  expect(ids).toEqual([second.id, job.id]);
  const labelled = await client.fineTuning.jobs.list({ metadata: { a: "b" } });
  expect(labelled.data.map(({ id }) => id)).toEqual([job.id]);
});

test("models and chat: list, retrieve, answer, stream, delete", async () => {
  const { server, client } = await connected();
  const file = await uploaded(client);
  const job = await client.fineTuning.jobs.create({ model: "gpt-4o-mini", training_file: file.id });
  const { model } = await succeedJob(server, job.id);
  expect((await client.models.retrieve(model)).owned_by).toBe("personal");
  const messages = [{ role: "user" as const, content: "Hi" }];
  const completion = await client.chat.completions.create({ model, messages });
  expect(completion.choices[0]?.message.content).toBe("Hello there!");
  expect(completion._request_id).toMatch(/^req_/);
  const stream = await client.chat.completions.create({
    model,
    messages,
    stream: true,
    stream_options: { include_usage: true },
  });
  let text = "";
  let total = 0;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? "";
    total = chunk.usage?.total_tokens ?? total;
  }
  expect([text, total]).toEqual(["Hello there!", 10]);
  expect((await client.models.delete(model)).deleted).toBe(true);
  const names: string[] = [];
  for await (const each of client.models.list()) names.push(each.id);
  expect(names).not.toContain(model);
  expect(names).toContain(BASE_MODEL);
});

test("stored completions: create, list, retrieve, update, messages, delete while listing", async () => {
  const { client } = await connected();
  const create = (team: string) =>
    client.chat.completions.create({
      model: BASE_MODEL,
      messages: [{ role: "user", content: "Hi" }],
      store: true,
      metadata: { team },
    });
  const one = await create("a");
  const { id } = await create("b");
  expect((await client.chat.completions.retrieve(id)).choices[0]?.message.content).toBe("Hello there!");
  const listed = await client.chat.completions.list({ metadata: { team: "a" }, model: BASE_MODEL, limit: 5 });
  expect(listed.data.map((each) => each.id)).toEqual([one.id]);
  expect(await client.chat.completions.update(id, { metadata: { team: "c" } })).toMatchObject({
    id,
    metadata: { team: "c" },
  });
  const said: unknown[] = [];
  for await (const message of client.chat.completions.messages.list(id, { limit: 1 }))
    said.push(message.content);
  expect(said).toEqual(["Hi"]);
  const deleted: string[] = [];
  for await (const each of client.chat.completions.list({ limit: 1 })) {
    deleted.push((await client.chat.completions.delete(each.id)).id);
  }
  expect(deleted).toEqual([id, one.id]);
  await expect(client.chat.completions.retrieve(id)).rejects.toMatchObject({
    code: "not_found",
    status: 404,
  });
});

test("the client raises its own class for each kind of error, and repeats none that cannot heal", async () => {
  const { server, client } = await connected();
  const messages = [{ role: "user" as const, content: "Hi" }];
  await expect(client.files.retrieve("file-nobody")).rejects.toBeInstanceOf(OpenAI.NotFoundError);
  await expect(client.chat.completions.create({ model: "gpt-9", messages })).rejects.toMatchObject({
    status: 404,
    code: "model_not_found",
    requestID: expect.stringMatching(/^req_/) as string,
  });
  await expect(client.chat.completions.create({ model: BASE_MODEL, messages, n: 0 })).rejects.toBeInstanceOf(
    OpenAI.BadRequestError,
  );
  const stranger = new OpenAI({ baseURL: client.baseURL, apiKey: "sk-nobody-0123456789-abcdef" });
  await expect(stranger.models.list()).rejects.toBeInstanceOf(OpenAI.AuthenticationError);
  let calls = 0;
  server.engine.answer = () => {
    calls += 1;
    throw new Error("a bug");
  };
  await expect(client.chat.completions.create({ model: BASE_MODEL, messages })).rejects.toBeInstanceOf(
    OpenAI.InternalServerError,
  );
  expect(calls).toBe(1);
});

test("a stream that fails raises in the client", async () => {
  const { server, client } = await connected();
  server.engine.answer = async function* () {
    yield { type: "prompt", promptTokens: 1 };
    yield { type: "text-delta", index: 0, text: "He" };
    throw new Error("a bug");
  };
  const stream = await client.chat.completions.create({
    model: BASE_MODEL,
    messages: [{ role: "user", content: "Hi" }],
    stream: true,
  });
  const read = async () => {
    for await (const chunk of stream) void chunk;
  };
  await expect(read()).rejects.toBeInstanceOf(OpenAI.APIError);
});
