// Legacy completions: prompts of all forms, choices in their order, log-probabilities, echo, best_of and streams.
import OpenAI from "openai";
import { expect, test } from "vitest";
import type {
  CompletionEvent,
  PromptTokenReport,
  TextRequest,
  TokenReport,
} from "../../src/serving/engine.ts";
import { createBatch, outputOf, batchServer, requestLine, settled } from "./batch-harness.ts";
import { BASE_MODEL, eventsOf, testServer } from "./harness.ts";
import type { TestServer } from "./harness.ts";

async function complete(server: TestServer, body: object = {}) {
  return server.app.inject({
    method: "POST",
    url: "/v1/completions",
    payload: { model: BASE_MODEL, prompt: "Say", ...body },
  });
}

const report = (token: string, logprob: number, top: readonly [string, number][] = []): TokenReport => ({
  token,
  logprob,
  bytes: [...Buffer.from(token)],
  top: top.map(([other, value]) => ({ token: other, logprob: value, bytes: [...Buffer.from(other)] })),
});

/** An answer for each index: its tokens, each with its log-probability. */
function answering(answers: readonly (readonly [string, number][])[]) {
  return async function* (request: TextRequest): AsyncGenerator<CompletionEvent> {
    const text = String(request.prompt);
    const head: PromptTokenReport = { token: text, bytes: [...Buffer.from(text)], logprob: null, top: null };
    yield {
      type: "prompt",
      promptTokens: 1,
      text,
      ...(request.scoresPrompt === true ? { logprobs: [head] } : {}),
    };
    for (const [index, tokens] of answers.slice(0, request.n).entries()) {
      for (const [token, logprob] of tokens) {
        const logprobs =
          request.topLogprobs === undefined ? {} : { logprobs: [report(token, logprob, [["x", -0.5]])] };
        yield { type: "text-delta", index, text: token, ...logprobs };
      }
      yield {
        type: "finish",
        index,
        reason: index === 0 ? "stop" : "length",
        completionTokens: tokens.length,
      };
    }
  };
}

test("an answer has OpenAI's members", async () => {
  const server = await testServer();
  const answer = await complete(server);
  expect(answer.json()).toEqual({
    id: expect.stringMatching(/^cmpl-[A-Za-z0-9]{29}$/) as string,
    object: "text_completion",
    created: expect.any(Number) as number,
    model: BASE_MODEL,
    system_fingerprint: expect.stringMatching(/^fp_/) as string,
    choices: [{ text: "Hello there!", index: 0, logprobs: null, finish_reason: "stop" }],
    usage: { prompt_tokens: 7, completion_tokens: 3, total_tokens: 10 },
  });
  expect(server.engine.textRequests[0]).toMatchObject({
    prompt: "Say",
    maxTokens: 16,
    temperature: 1,
    topP: 1,
    n: 1,
    seed: null,
  });
  expect(server.engine.textRequests[0]).not.toHaveProperty("topLogprobs");
});

test("every parameter reaches the engine", async () => {
  const server = await testServer();
  await complete(server, {
    max_tokens: 3,
    temperature: 0,
    top_p: 0.5,
    n: 2,
    stop: "x",
    seed: 9,
    frequency_penalty: 1,
    presence_penalty: -1,
    logit_bias: { 5: 2 },
    logprobs: 4,
    echo: true,
    user: "u",
    suffix: null,
  });
  expect(server.engine.textRequests[0]).toMatchObject({
    maxTokens: 3,
    temperature: 0,
    topP: 0.5,
    n: 2,
    stop: ["x"],
    seed: 9,
    frequencyPenalty: 1,
    presencePenalty: -1,
    logitBias: new Map([[5, 2]]),
    topLogprobs: 4,
    scoresPrompt: true,
  });
});

test.each([
  [undefined, [""]],
  [null, [""]],
  ["", [""]],
  [
    ["a", "b"],
    ["a", "b"],
  ],
  [[1, 2], [[1, 2]]],
  [
    [[1, 2], [3]],
    [[1, 2], [3]],
  ],
])("the prompt %j is %j", async (prompt, expected) => {
  const server = await testServer();
  expect((await complete(server, { prompt })).statusCode).toBe(200);
  expect(server.engine.textRequests.map((request) => request.prompt)).toEqual(expected);
});

test("choices come prompt after prompt, and usage is of all of them", async () => {
  const server = await testServer();
  server.engine.answerText = async function* ({ prompt }) {
    yield { type: "prompt", promptTokens: 2 };
    // The first prompts are the slowest.
    await new Promise((resolve) => setTimeout(resolve, 20 - Number(prompt)));
    for (const index of [1, 0]) {
      yield { type: "text-delta", index, text: `${String(prompt)}.${index}` };
      yield { type: "finish", index, reason: "stop", completionTokens: 3 };
    }
  };
  const prompt = Array.from({ length: 20 }, (_, i) => String(i));
  const answer = (await complete(server, { prompt, n: 2 })).json<OpenAI.Completion>();
  expect(answer.choices.map(({ text }) => text)).toEqual(
    prompt.flatMap((each) => [`${each}.0`, `${each}.1`]),
  );
  expect(answer.choices.map(({ index }) => index)).toEqual(Array.from({ length: 40 }, (_, i) => i));
  expect(answer.usage).toEqual({ prompt_tokens: 40, completion_tokens: 120, total_tokens: 160 });
});

test("at most 16 prompts of a request are at work at a time; when one fails, the others end", async () => {
  const server = await testServer();
  let [running, most, ended] = [0, 0, 0];
  server.engine.answerText = async function* ({ prompt, signal }) {
    most = Math.max(most, ++running);
    yield { type: "prompt", promptTokens: 1 };
    await new Promise((resolve) => {
      if (prompt === "3") setTimeout(resolve, 30);
      else signal.addEventListener("abort", resolve);
    });
    ended += 1;
    if (prompt === "3") throw new Error("a bug");
  };
  const prompt = Array.from({ length: 30 }, (_, i) => String(i));
  const answer = await complete(server, { prompt });
  expect(answer.statusCode).toBe(500);
  expect([running, most, ended]).toEqual([16, 16, 16]);
});

test("log-probabilities stand in four lists, offsets count from the prompt's beginning", async () => {
  const server = await testServer();
  server.engine.answerText = answering([
    [
      ["né", -1],
      ["!", -Infinity],
    ],
  ]);
  const [choice] = (await complete(server, { logprobs: 1, prompt: "Größe" })).json<OpenAI.Completion>()
    .choices;
  expect(choice?.logprobs).toEqual({
    tokens: ["né", "!"],
    token_logprobs: [-1, -9999],
    top_logprobs: [
      { x: -0.5, né: -1 },
      { x: -0.5, "!": -9999 },
    ],
    text_offset: [5, 7],
  });
  const bare = (await complete(server, { logprobs: 0 })).json<OpenAI.Completion>();
  expect(bare.choices[0]?.logprobs).toMatchObject({ tokens: ["né", "!"], top_logprobs: null });
});

test("a character that is spread over tokens counts once, for its last one", async () => {
  const server = await testServer();
  const euro = [...Buffer.from("€")];
  const part = (bytes: number[]): TokenReport => ({ token: "bytes:…", bytes, logprob: -1, top: [] });
  server.engine.answerText = async function* () {
    yield { type: "prompt", promptTokens: 0, text: "" };
    const logprobs = [part(euro.slice(0, 1)), part(euro.slice(1)), report("a", -1)];
    yield { type: "text-delta", index: 0, text: "€a", logprobs };
    yield { type: "finish", index: 0, reason: "stop", completionTokens: 3 };
  };
  const [choice] = (await complete(server, { logprobs: 0 })).json<OpenAI.Completion>().choices;
  expect(choice?.logprobs?.text_offset).toEqual([0, 0, 1]);
});

test("echo puts the prompt in front, with its own tokens; of the first nothing is known", async () => {
  const server = await testServer();
  server.engine.answerText = answering([[["b", -1]]]);
  const body = { prompt: "A", echo: true, logprobs: 2 };
  const [choice] = (await complete(server, body)).json<OpenAI.Completion>().choices;
  expect(choice).toMatchObject({
    text: "Ab",
    logprobs: {
      tokens: ["A", "b"],
      token_logprobs: [null, -1],
      top_logprobs: [null, { x: -0.5, b: -1 }],
      text_offset: [0, 1],
    },
  });
  const streamed = eventsOf((await complete(server, { ...body, stream: true })).body) as OpenAI.Completion[];
  expect(streamed.slice(0, 3).map(({ choices }) => choices[0])).toMatchObject([
    { text: "A", logprobs: { tokens: ["A"], token_logprobs: [null], text_offset: [0] }, finish_reason: null },
    { text: "b", logprobs: { tokens: ["b"], text_offset: [1] }, finish_reason: null },
    { text: "", logprobs: null, finish_reason: "stop" },
  ]);
});

test("best_of gives the answers whose tokens are likeliest on average", async () => {
  const server = await testServer();
  server.engine.answerText = answering([
    [
      ["long", -1],
      ["er", -1],
    ],
    [["short", -1.5]],
    [],
    [
      ["best", -0.5],
      ["!", -0.7],
      ["!", -0.6],
    ],
  ]);
  const { choices, usage } = (await complete(server, { best_of: 4, n: 2 })).json<OpenAI.Completion>();
  expect(choices).toMatchObject([
    { text: "best!!", index: 0, logprobs: null, finish_reason: "length" },
    { text: "longer", index: 1, logprobs: null, finish_reason: "stop" },
  ]);
  // Those that were dropped were written, too.
  expect(usage).toMatchObject({ prompt_tokens: 1, completion_tokens: 6 });
  expect(server.engine.textRequests[0]).toMatchObject({ n: 4, topLogprobs: 0 });
});

test("a stream has chunks of the same shape, usage when asked for, and an end", async () => {
  const server = await testServer();
  const plain = eventsOf((await complete(server, { stream: true, prompt: ["a", "b"] })).body);
  expect(plain.at(-1)).toBe("[DONE]");
  const chunks = plain.slice(0, -1) as OpenAI.Completion[];
  const texts = ["", ""];
  for (const { choices } of chunks) {
    for (const { index, text } of choices) texts[index] += text;
  }
  expect(texts).toEqual(["Hello there!", "Hello there!"]);
  expect(new Set(chunks.map(({ id, object }) => `${id} ${object}`))).toEqual(
    new Set([`${String(chunks[0]?.id)} text_completion`]),
  );
  expect(chunks[0]).not.toHaveProperty("usage");
  const options = { stream: true, stream_options: { include_usage: true } };
  const counted = eventsOf((await complete(server, options)).body) as OpenAI.Completion[];
  expect(counted[0]?.usage).toBeNull();
  expect(counted.at(-2)).toMatchObject({
    choices: [],
    usage: { prompt_tokens: 7, completion_tokens: 3, total_tokens: 10 },
  });
});

test("a stream that fails in the middle tells it in an event", async () => {
  const server = await testServer();
  server.engine.answerText = async function* () {
    yield { type: "prompt", promptTokens: 1 };
    yield { type: "text-delta", index: 0, text: "He" };
    throw new Error("a bug");
  };
  const events = eventsOf((await complete(server, { stream: true })).body);
  expect(events.at(-1)).toMatchObject({ error: { type: "server_error" } });
  server.engine.answerText = async function* () {
    throw new Error("before the first event");
  };
  expect((await complete(server, { stream: true })).statusCode).toBe(500);
});

test("the official client: whole and streamed", async () => {
  const server = await testServer();
  const client = new OpenAI({ baseURL: `${await server.listen()}/v1`, apiKey: "none", maxRetries: 0 });
  const body = { model: BASE_MODEL, prompt: "Say" };
  const whole = await client.completions.create(body);
  expect(whole.choices[0]?.text).toBe("Hello there!");
  let text = "";
  for await (const chunk of await client.completions.create({ ...body, stream: true })) {
    text += chunk.choices[0]?.text ?? "";
  }
  expect(text).toBe("Hello there!");
});

test("batches of completions run", async () => {
  const { client } = await batchServer();
  const url = "/v1/completions";
  const line = requestLine("one", { url, body: { model: BASE_MODEL, prompt: "Say" } });
  const batch = await createBatch(client, [line], { endpoint: url });
  const { status, output_file_id: output, request_counts: counts } = await settled(client, batch.id);
  expect([status, counts]).toMatchObject(["completed", { completed: 1, failed: 0 }]);
  expect((await outputOf(client, output)).get("one")?.response?.body).toMatchObject({
    object: "text_completion",
    choices: [{ text: "Hello there!" }],
  });
});
