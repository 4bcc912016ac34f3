// The official Node client at each of its majors against one server: the same code, from the upload to the deletion, and
// every error class. The tests of one client build on each other.
import { createReadStream } from "node:fs";
import type OpenAI from "openai";
import type * as Newest from "openai-7";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { cleanUp, JOB_TIMEOUT_MS, OPENAI_MODEL, TINY } from "../e2e/harness.ts";
import {
  EMBEDDING_MODEL,
  EMBEDDING_WIDTH,
  HYPERPARAMETERS,
  startServer,
  trainingFile,
  UNREACHABLE_MODEL,
} from "./harness.ts";
import type { ClientServer } from "./harness.ts";

/** The newest major stands for the types of all; where their code differs, `Dialect` says how. */
type Library = typeof Newest;
type Client = InstanceType<Library["OpenAI"]>;

interface Dialect {
  library: Library;
  remove(resource: "files" | "models", client: Client, id: string): Promise<{ deleted: boolean }>;
  /** Where the helpers for streams are. */
  helpers(client: Client): Client["chat"]["completions"];
}

const modern = (library: unknown): Dialect => ({
  library: library as Library,
  remove: (resource, client, id) => client[resource].delete(id),
  helpers: (client) => client.chat.completions,
});

type Del = Record<"files" | "models", { del(id: string): Promise<{ deleted: boolean }> }>;

const MAJORS: Record<string, () => Promise<Dialect>> = {
  "openai 4": async () => ({
    library: (await import("openai-4")) as unknown as Library,
    remove: (resource, client, id) => (client as unknown as Del)[resource].del(id),
    helpers: (client) => (client.beta as unknown as Pick<Client, "chat">).chat.completions,
  }),
  "openai 5": async () => modern(await import("openai-5")),
  "openai 6": async () => modern(await import("openai")),
  "openai 7": async () => modern(await import("openai-7")),
};

const messages: OpenAI.ChatCompletionMessageParam[] = [
  { role: "system", content: "Set the category." },
  { role: "user", content: "Ticket 3: please help me with my delivery." },
];
const parameters = {
  type: "object",
  properties: { category: { type: "string", enum: ["billing", "refund"] }, urgent: { type: "boolean" } },
  required: ["category", "urgent"],
  additionalProperties: false,
};
const LABEL = expect.objectContaining({
  category: expect.stringMatching(/^(billing|refund)$/) as string,
}) as object;

let server: ClientServer;

beforeAll(async () => {
  server = await startServer();
});
afterAll(cleanUp);

describe.each(Object.entries(MAJORS))("%s", (name, load) => {
  let dialect: Dialect;
  let client: Client;
  let fileId: string;
  let model: string;

  const connect = (options: { apiKey?: string; baseURL?: string; timeout?: number } = {}): Client =>
    new dialect.library.OpenAI({ baseURL: server.baseURL, apiKey: server.key, maxRetries: 0, ...options });

  beforeAll(async () => {
    dialect = await load();
    client = connect();
  });

  test("uploads, fine-tunes, polls, reads events and checkpoints", { timeout: JOB_TIMEOUT_MS }, async () => {
    const file = await client.files.create({
      file: createReadStream(await trainingFile()),
      purpose: "fine-tune",
    });
    fileId = file.id;
    expect(file).toMatchObject({ filename: "train.jsonl", purpose: "fine-tune" });
    expect((await client.files.waitForProcessing(fileId, { pollInterval: 10 })).status).toBe("processed");
    let job = await client.fineTuning.jobs.create({
      model: OPENAI_MODEL,
      training_file: fileId,
      suffix: "client",
      method: { type: "supervised", supervised: { hyperparameters: HYPERPARAMETERS } },
      metadata: { client: name },
    });
    while (!["succeeded", "failed", "cancelled"].includes(job.status)) {
      await new Promise((resolve) => setTimeout(resolve, 50));
      job = await client.fineTuning.jobs.retrieve(job.id);
    }
    expect(job).toMatchObject({ status: "succeeded", error: null, hyperparameters: HYPERPARAMETERS });
    model = job.fine_tuned_model ?? "";
    expect(model).toMatch(/^ft:gpt-4o-mini-2024-07-18:personal:client:/);
    const events: string[] = [];
    for await (const event of client.fineTuning.jobs.listEvents(job.id, { limit: 3 }))
      events.push(event.message);
    expect([events[0], events.at(-1)]).toEqual([
      "The job has successfully completed",
      `Created fine-tuning job: ${job.id}`,
    ]);
    expect(events.filter((message) => message.startsWith("Step "))).toHaveLength(6);
    const checkpoints = (await client.fineTuning.jobs.checkpoints.list(job.id)).data;
    expect(checkpoints.map(({ step_number }) => step_number)).toEqual([6, 3]);
    expect(checkpoints[0]?.fine_tuned_model_checkpoint).toBe(model);
    expect((await client.fineTuning.jobs.list({ limit: 1 })).data[0]?.id).toBe(job.id);
    const result = await (await client.files.content(job.result_files[0] ?? "")).text();
    expect(Buffer.from(result, "base64").toString()).toMatch(/^step,train_loss,/);
    const names: string[] = [];
    for await (const { id } of client.models.list()) names.push(id);
    expect(names).toEqual(expect.arrayContaining([model, OPENAI_MODEL, TINY]));
  });

  test("chats, plain and streamed alike", async () => {
    const body = { model, messages, temperature: 0, max_tokens: 16 };
    const completion = await client.chat.completions.create(body);
    expect(completion).toMatchObject({ object: "chat.completion", model });
    expect(completion._request_id).toMatch(/^req_/);
    const text = completion.choices[0]?.message.content;
    expect(text).toBeTypeOf("string");
    let streamed = "";
    const options = { stream: true, stream_options: { include_usage: true } } as const;
    const usages = [];
    for await (const chunk of await client.chat.completions.create({ ...body, ...options })) {
      streamed += chunk.choices[0]?.delta.content ?? "";
      if (chunk.usage) usages.push(chunk.usage);
    }
    expect(streamed).toBe(text);
    expect(usages).toEqual([completion.usage]);
    const helped = await dialect.helpers(client).stream(body).finalChatCompletion();
    // The job's seed is drawn anew each time, and of an empty answer some helpers make null.
    expect(helped.choices[0]?.message.content ?? "").toBe(text);
  });

  test("calls tools, plain and streamed alike, and sends their results", async () => {
    const tools = [{ type: "function" as const, function: { name: "label", strict: true, parameters } }];
    const body = { model, messages, tools, tool_choice: "required" as const, parallel_tool_calls: false };
    const { choices } = await client.chat.completions.create(body);
    const [call] = choices[0]?.message.tool_calls ?? [];
    if (call?.type !== "function") throw new Error("no function was called");
    expect([choices[0]?.finish_reason, call.function.name]).toEqual(["tool_calls", "label"]);
    expect(JSON.parse(call.function.arguments)).toEqual(LABEL);
    const streamed = await dialect.helpers(client).stream(body).finalChatCompletion();
    const [again] = streamed.choices[0]?.message.tool_calls ?? [];
    expect(again).toMatchObject({ function: { name: "label" } });
    expect(JSON.parse((again as typeof call).function.arguments)).toEqual(LABEL);
    const answer = await client.chat.completions.create({
      model,
      messages: [
        ...messages,
        { role: "assistant", content: null, tool_calls: [call] },
        { role: "tool", tool_call_id: call.id, content: "done" },
      ],
      max_tokens: 4,
    });
    expect(answer.choices).toHaveLength(1);
  });

  test("holds answers to a schema", async () => {
    const completion = await client.chat.completions.create({
      model,
      messages,
      response_format: {
        type: "json_schema",
        json_schema: { name: "label", strict: true, schema: parameters },
      },
    });
    expect(JSON.parse(completion.choices[0]?.message.content ?? "")).toEqual(LABEL);
  });

  test("runs a batch", { timeout: JOB_TIMEOUT_MS }, async () => {
    const lines = ["a", "b"].map((custom_id) =>
      JSON.stringify({
        custom_id,
        method: "POST",
        url: "/v1/chat/completions",
        body: { model, messages, max_tokens: 4 },
      }),
    );
    const input = await client.files.create({
      file: await dialect.library.toFile(Buffer.from(lines.join("\n")), "batch.jsonl"),
      purpose: "batch",
    });
    let batch = await client.batches.create({
      input_file_id: input.id,
      endpoint: "/v1/chat/completions",
      completion_window: "24h",
    });
    while (!["completed", "failed", "expired", "cancelled"].includes(batch.status)) {
      await new Promise((resolve) => setTimeout(resolve, 50));
      batch = await client.batches.retrieve(batch.id);
    }
    expect(batch).toMatchObject({
      status: "completed",
      request_counts: { total: 2, completed: 2, failed: 0 },
    });
    const output = await (await client.files.content(batch.output_file_id ?? "")).text();
    const answers = output
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as { custom_id: string; response: object });
    expect(answers.map(({ custom_id }) => custom_id).sort()).toEqual(["a", "b"]);
    for (const { response } of answers) expect(response).toMatchObject({ status_code: 200, body: { model } });
  });

  test("embeds, in base64 and in floats alike", async () => {
    const input = ["the quick fox", "refund"];
    const packed = await client.embeddings.create({ model: EMBEDDING_MODEL, input });
    const plain = await client.embeddings.create({ model: EMBEDDING_MODEL, input, encoding_format: "float" });
    expect(plain.data.map(({ embedding }) => embedding.length)).toEqual([EMBEDDING_WIDTH, EMBEDDING_WIDTH]);
    for (const [i, { embedding }] of plain.data.entries())
      expect([...(packed.data[i]?.embedding ?? [])]).toEqual(embedding);
  });

  type ErrorName = Extract<keyof Library, `${string}Error`>;
  const refusals: [ErrorName, object, (client: Client) => Promise<unknown>][] = [
    [
      "BadRequestError",
      { status: 400, code: "unknown_parameter", param: "unheard_of" },
      (client) => client.chat.completions.create({ model, messages, ...{ unheard_of: 1 } }),
    ],
    [
      "AuthenticationError",
      { status: 401, code: "invalid_api_key" },
      () => connect({ apiKey: "sk-wrong-0123456789-abcdefgh" }).models.list(),
    ],
    [
      "PermissionDeniedError",
      { status: 403 },
      () => connect({ apiKey: server.readerKey }).chat.completions.create({ model, messages }),
    ],
    [
      "NotFoundError",
      { status: 404, code: "model_not_found" },
      (client) => client.chat.completions.create({ model: "gpt-9", messages }),
    ],
    [
      "ConflictError",
      { status: 409 },
      async (client) => {
        const url = server.baseURL.replace(/v1$/, "tunesmith/projects");
        const body = { id: "proj_clients", name: "clients" };
        await client.post(url, { body }).catch(() => undefined);
        return client.post(url, { body });
      },
    ],
    [
      "RateLimitError",
      { status: 429, code: "rate_limit_exceeded" },
      async () => {
        const limited = connect({ apiKey: await server.limitedKey() });
        await limited.models.list();
        return limited.models.list();
      },
    ],
    [
      "InternalServerError",
      { status: 503 },
      (client) => client.chat.completions.create({ model: UNREACHABLE_MODEL, messages }),
    ],
    ["APIConnectionError", {}, () => connect({ baseURL: "http://127.0.0.1:1/v1" }).models.list()],
    [
      "APIConnectionTimeoutError",
      {},
      () => connect({ timeout: 1 }).chat.completions.create({ model: TINY, messages, n: 8, max_tokens: 200 }),
    ],
    [
      "APIUserAbortError",
      {},
      (client) => {
        const controller = new AbortController();
        const answer = client.chat.completions.create({ model, messages }, { signal: controller.signal });
        controller.abort();
        return answer;
      },
    ],
  ];

  test.each(refusals)("raises %s", async (errorName, members, request) => {
    const error = await request(client).then(
      () => expect.fail("nothing was raised"),
      (error: unknown) => error,
    );
    expect(error).toBeInstanceOf(dialect.library[errorName]);
    expect(error).toMatchObject(members);
  });

  test("deletes what it made", async () => {
    expect(await dialect.remove("models", client, model)).toMatchObject({ deleted: true });
    expect(await dialect.remove("files", client, fileId)).toMatchObject({ deleted: true });
    await expect(client.models.retrieve(model)).rejects.toBeInstanceOf(dialect.library.NotFoundError);
    await expect(client.files.retrieve(fileId)).rejects.toBeInstanceOf(dialect.library.NotFoundError);
  });
});
