// Responses through the official `openai` client: what counts is what it hands to its user.
import OpenAI from "openai";
import type { ResponseInput } from "openai/resources/responses/responses";
import { expect, test } from "vitest";
import { batchServer, createBatch, outputOf, requestLine, settled } from "./batch-harness.ts";
import { BASE_MODEL, testServer } from "./harness.ts";
import type { TestServer } from "./harness.ts";

async function connected(): Promise<{ server: TestServer; client: OpenAI }> {
  const server = await testServer();
  const url = await server.listen();
  return { server, client: new OpenAI({ baseURL: `${url}/v1`, apiKey: "sk-any", maxRetries: 0 }) };
}

const model = BASE_MODEL;

test("create, retrieve, list input items, delete", async () => {
  const { client } = await connected();
  const response = await client.responses.create({ model, input: "Hi", instructions: "Be brief." });
  expect(response.output_text).toBe("Hello there!");
  expect(response._request_id).toMatch(/^req_/);
  const read = await client.responses.retrieve(response.id);
  expect([read.id, read.output_text]).toEqual([response.id, "Hello there!"]);
  const next = await client.responses.create({
    model,
    previous_response_id: response.id,
    input: [{ role: "user", content: [{ type: "input_text", text: "More" }] }],
  });
  const roles: string[] = [];
  for await (const item of client.responses.inputItems.list(next.id, { limit: 1, order: "asc" })) {
    if (item.type === "message") roles.push(item.role);
  }
  expect(roles).toEqual(["user", "assistant", "user"]);
  await client.responses.delete(response.id);
  await expect(client.responses.retrieve(response.id)).rejects.toBeInstanceOf(OpenAI.NotFoundError);
  const going = client.responses.create({ model, input: "Hi", previous_response_id: response.id });
  await expect(going).rejects.toMatchObject({
    status: 400,
    code: "previous_response_not_found",
    param: "previous_response_id",
  });
  expect((await client.responses.inputTokens.count({ model, input: "four" })).input_tokens).toBe(4);
});

test("an answer's items may be sent back instead of its id", async () => {
  const { client } = await connected();
  const input: ResponseInput = [{ role: "user", content: "Hi" }];
  const response = await client.responses.create({ model, input, store: false });
  input.push(...(response.output as ResponseInput), { role: "user", content: "More" });
  expect((await client.responses.create({ model, input, store: false })).output_text).toBe("Hello there!");
});

test("streams: raw events, and the helper that puts them together", async () => {
  const { client } = await connected();
  let text = "";
  const types = new Set<string>();
  for await (const event of await client.responses.create({ model, input: "Hi", stream: true })) {
    types.add(event.type);
    if (event.type === "response.output_text.delta") text += event.delta;
  }
  expect(text).toBe("Hello there!");
  expect([...types].at(-1)).toBe("response.completed");
  const stream = client.responses.stream({ model, input: "Hi" });
  const snapshots: string[] = [];
  stream.on("response.output_text.delta", ({ snapshot }) => snapshots.push(snapshot));
  const final = await stream.finalResponse();
  expect(snapshots).toEqual(["Hello", "Hello there", "Hello there!"]);
  expect([final.status, final.output_text]).toEqual(["completed", "Hello there!"]);
  expect((await client.responses.retrieve(final.id)).output_text).toBe("Hello there!");
});

test("a stream that fails raises in the client", async () => {
  const { server, client } = await connected();
  server.engine.answer = async function* () {
    yield { type: "prompt", promptTokens: 1 };
    throw new Error("a bug");
  };
  const read = async () => {
    for await (const event of await client.responses.create({ model, input: "Hi", stream: true })) void event;
  };
  await expect(read()).rejects.toBeInstanceOf(OpenAI.APIError);
  await expect(client.responses.stream({ model, input: "Hi" }).finalResponse()).rejects.toThrow(
    /had an error/,
  );
});

const properties = { city: { type: "string" } };
const parameters = { type: "object", properties, required: ["city"], additionalProperties: false };

test("structured output is parsed", async () => {
  const { server, client } = await connected();
  server.engine.words = ['{"city":', '"Ulm"}'];
  const text = { format: { type: "json_schema" as const, name: "place", strict: true, schema: parameters } };
  const response = await client.responses.parse({ model, input: "Where?", text });
  expect(response.output_text).toBe('{"city":"Ulm"}');
  expect(server.engine.requests[0]?.form).toEqual({ type: "json_schema", schema: parameters });
});

test("a tool's round trip", async () => {
  const { server, client } = await connected();
  server.engine.answer = async function* () {
    yield { type: "prompt", promptTokens: 5 };
    yield { type: "tool-call", index: 0, call: 0, name: "get_weather", arguments: '{"city":"Ulm"}' };
    yield { type: "finish", index: 0, reason: "tool_calls", completionTokens: 9 };
  };
  const tools = [{ type: "function" as const, name: "get_weather", parameters, strict: true }];
  const first = await client.responses.stream({ model, input: "Weather?", tools }).finalResponse();
  const [call] = first.output;
  if (call?.type !== "function_call") throw new Error("no call");
  expect(call.parsed_arguments).toEqual({ city: "Ulm" });
  server.engine.answer = null;
  const second = await client.responses.create({
    model,
    tools,
    previous_response_id: first.id,
    input: [{ type: "function_call_output", call_id: call.call_id, output: "sun" }],
  });
  expect(second.output_text).toBe("Hello there!");
  expect(server.engine.requests[1]?.messages.at(-1)).toMatchObject({ role: "tool", content: "sun" });
});

test("background: poll, cancel", async () => {
  const { server, client } = await connected();
  const begun = await client.responses.create({ model, input: "Hi", background: true });
  await expect.poll(async () => (await client.responses.retrieve(begun.id)).status).toBe("completed");
  server.engine.answer = async function* ({ signal }) {
    yield { type: "prompt", promptTokens: 1 };
    await new Promise((resolve) => signal.addEventListener("abort", resolve));
  };
  const { id } = await client.responses.create({ model, input: "Hi", background: true });
  expect((await client.responses.cancel(id)).status).toBe("cancelled");
});

test("a batch of responses: whole bodies, model and usage", async () => {
  const { client } = await batchServer();
  const url = "/v1/responses";
  const line = (id: string, more = {}) => requestLine(id, { url, body: { model, input: id, ...more } });
  const created = await createBatch(client, [line("a"), line("b"), line("c", { n: 1 })], { endpoint: url });
  const batch = await settled(client, created.id);
  expect(batch).toMatchObject({
    status: "completed",
    model,
    request_counts: { total: 3, completed: 2, failed: 1 },
    usage: { input_tokens: 14, output_tokens: 6, total_tokens: 20 },
  });
  const output = await outputOf(client, batch.output_file_id);
  expect(output.get("a")?.response).toMatchObject({
    status_code: 200,
    body: { object: "response", status: "completed", output: [{ content: [{ text: "Hello there!" }] }] },
  });
  expect((await outputOf(client, batch.error_file_id)).get("c")?.response?.status_code).toBe(400);
  const refused = await createBatch(client, [line("a", { background: true })], { endpoint: url });
  expect((await settled(client, refused.id)).errors?.data?.[0]).toMatchObject({ param: "body.background" });
});
