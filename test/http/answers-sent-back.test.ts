// Earlier answers that come back as the official clients' helpers give them, or with refusals, and answers that were cut off.
import { expect, test } from "vitest";
import { ask, BASE_MODEL, testServer } from "./harness.ts";
import type { TestServer } from "./harness.ts";

interface Answer {
  id: string;
  status: string;
  output: { id: string; call_id?: string; status: string }[];
}

async function respond(server: TestServer, body: object) {
  const payload = { model: BASE_MODEL, input: "Hi", ...body };
  return server.app.inject({ method: "POST", url: "/v1/responses", payload });
}

const user = { role: "user", content: "Hi" };
const called = { name: "f", arguments: '{"a":1}' };

test("what helpers read out of a chat answer reaches neither the model nor what is stored", async () => {
  const server = await testServer();
  const call = { id: "c1", type: "function", function: called };
  const answer = await ask(server, {
    store: true,
    messages: [
      user,
      {
        role: "assistant",
        content: "{}",
        parsed: { secret: 1 },
        tool_calls: [{ ...call, function: { ...called, parsed_arguments: { secret: 1 } } }],
      },
      { role: "tool", tool_call_id: "c1", name: "f", content: "x" },
      { role: "assistant", content: "A", parsed: null },
      user,
    ],
  });
  expect(answer.statusCode).toBe(200);
  expect(server.engine.requests[0]?.messages).toEqual([
    user,
    { role: "assistant", content: "{}", tool_calls: [call] },
    { role: "tool", tool_call_id: "c1", content: "x" },
    { role: "assistant", content: "A" },
    user,
  ]);
  const { id } = answer.json<{ id: string }>();
  const kept = await server.app.inject({ url: `/v1/chat/completions/${id}/messages` });
  expect(kept.json<{ data: unknown[] }>().data.slice(1, 3)).toMatchObject([
    { tool_calls: [call] },
    { role: "tool", name: "f", tool_call_id: "c1" },
  ]);
  expect(kept.body).not.toMatch(/secret|parsed/);
});

test("what helpers read out of a response reaches neither the model nor what is stored", async () => {
  const server = await testServer();
  const answer = await respond(server, {
    input: [
      {
        role: "assistant",
        content: [{ type: "output_text", text: "{}", annotations: [], parsed: { secret: 1 } }],
      },
      { type: "function_call", call_id: "c1", ...called, parsed_arguments: { secret: 1 } },
      { type: "function_call_output", call_id: "c1", output: "x" },
    ],
  });
  expect(answer.statusCode).toBe(200);
  expect(server.engine.requests[0]?.messages).toEqual([
    { role: "assistant", content: "{}", tool_calls: [{ id: "c1", type: "function", function: called }] },
    { role: "tool", tool_call_id: "c1", content: "x" },
  ]);
  const kept = await server.app.inject({ url: `/v1/responses/${answer.json<Answer>().id}/input_items` });
  expect(kept.statusCode).toBe(200);
  expect(kept.body).not.toMatch(/secret|parsed/);
});

test("a refusal is text that the assistant said", async () => {
  const server = await testServer();
  const part = { type: "refusal", refusal: "No." };
  const text = { type: "text", text: "Well. " };
  const chat = await ask(server, {
    messages: [
      { role: "assistant", content: null, refusal: "no" },
      { role: "assistant", content: [text, part] },
      { role: "assistant", content: "A", refusal: null },
      { role: "assistant", content: "A", refusal: "B" },
      { role: "assistant", content: [text], refusal: "B" },
      user,
    ],
  });
  expect(chat.statusCode).toBe(200);
  const answer = await respond(server, {
    input: [{ role: "assistant", content: [{ type: "output_text", text: "Well. " }, part] }, user],
  });
  expect(answer.statusCode).toBe(200);
  const seen = server.engine.requests.map(({ messages }) => messages.map(({ content }) => content));
  expect(seen).toEqual([
    ["no", "Well. No.", "A", "AB", "Well. B", "Hi"],
    ["Well. No.", "Hi"],
  ]);
  const wrong = await ask(server, { messages: [{ role: "user", content: [part] }] });
  expect(wrong.json()).toMatchObject({ error: { param: "messages[0].content[0].type" } });
});

test("log-probabilities of an answer do not count when the conversation goes on", async () => {
  const server = await testServer();
  const token = { token: " there", bytes: [...Buffer.from(" there")], logprob: -0.123456789 };
  const report = { ...token, top: Array.from({ length: 20 }, () => token) };
  server.engine.answer = async function* () {
    yield { type: "prompt", promptTokens: 1 };
    yield { type: "text-delta", index: 0, text: "Hi", logprobs: Array.from({ length: 2700 }, () => report) };
    yield { type: "finish", index: 0, reason: "stop", completionTokens: 2700 };
  };
  const first = await respond(server, { include: ["message.output_text.logprobs"], top_logprobs: 20 });
  expect(first.body.length).toBeGreaterThan(4 * 1024 * 1024);
  const { id, output } = first.json<Answer>();
  server.engine.answer = null;
  const goingOn = [
    { previous_response_id: id },
    { input: [{ type: "item_reference", id: output[0]?.id }, user] },
  ];
  for (const body of goingOn) {
    const next = await respond(server, body);
    expect(next.statusCode).toBe(200);
    const kept = await server.app.inject({
      url: `/v1/responses/${next.json<Answer>().id}/input_items?order=asc`,
    });
    expect(kept.json<{ data: unknown[] }>().data).toContainEqual(
      expect.objectContaining({
        role: "assistant",
        content: [{ type: "output_text", text: "Hi", annotations: [], logprobs: [] }],
      }),
    );
  }
});

test("items that are referred to count each time, until they are too much", async () => {
  const server = await testServer();
  server.engine.words = ["x".repeat(50_000)];
  const { output } = (await respond(server, {})).json<Answer>();
  const input = (count: number) =>
    Array.from({ length: count }, () => ({ type: "item_reference", id: output[0]?.id }));
  const answer = await respond(server, { input: input(100) });
  expect(answer.json()).toMatchObject({
    error: {
      message: expect.stringContaining("it has more than 4194304 bytes as JSON") as string,
      param: "input",
      code: "context_length_exceeded",
    },
  });
  expect((await respond(server, { input: input(2) })).statusCode).toBe(200);
});

test("a call that was cut off is incomplete, and the conversation goes on without it", async () => {
  const server = await testServer();
  server.engine.answer = async function* () {
    yield { type: "prompt", promptTokens: 1 };
    yield { type: "tool-call", index: 0, call: 0, name: "f", arguments: "{}" };
    yield { type: "tool-call", index: 0, call: 1, name: "f", arguments: '{"a":' };
    yield { type: "finish", index: 0, reason: "length", completionTokens: 16 };
  };
  const tools = [{ type: "function", name: "f", parameters: { type: "object" }, strict: false }];
  const first = (await respond(server, { tools })).json<Answer>();
  expect(first).toMatchObject({
    status: "incomplete",
    output: [{ status: "completed" }, { status: "incomplete", arguments: '{"a":' }],
  });
  const streamed = await respond(server, { tools, stream: true });
  const done = [...streamed.body.matchAll(/^data: (.*)$/gm)]
    .map(([, data = ""]) => JSON.parse(data) as { type: string; item?: { status: string } })
    .filter(({ type }) => type === "response.output_item.done")
    .map(({ item }) => item?.status);
  expect(done).toEqual(["completed", "incomplete"]);

  const outputs = first.output.map(({ call_id }) => ({ type: "function_call_output", call_id, output: "x" }));
  const refused = await respond(server, { previous_response_id: first.id, input: outputs });
  expect(refused.statusCode).toBe(400);
  expect(refused.json()).toMatchObject({
    error: {
      message: `Invalid 'input': the function call ${first.output[1]?.call_id} was cut off in the middle of its arguments, and the conversation goes on without it. Send no output for it, or the whole 'function_call' before the output.`,
      param: "input",
      code: "invalid_value",
    },
  });
  const next = await respond(server, { previous_response_id: first.id, input: [outputs[0], user] });
  expect(next.statusCode).toBe(200);
  expect(server.engine.requests.at(-1)?.messages).toMatchObject([
    { role: "user" },
    { role: "assistant", tool_calls: [{ id: first.output[0]?.call_id, function: { arguments: "{}" } }] },
    { role: "tool", tool_call_id: first.output[0]?.call_id },
    { role: "user" },
  ]);
  const mended = { type: "function_call", call_id: first.output[1]?.call_id, name: "f", arguments: "{}" };
  const whole = await respond(server, { previous_response_id: first.id, input: [mended, ...outputs] });
  expect(whole.statusCode).toBe(200);
  const references = first.output.map(({ id }) => ({ type: "item_reference", id }));
  const referred = await respond(server, { input: [...references, ...outputs] });
  expect(referred.json()).toMatchObject({
    error: { message: expect.stringContaining("was cut off") as string, param: "input" },
  });
});
