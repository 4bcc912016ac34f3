// A key's limits as clients see them: headers on every answer, 429 with the time to wait, and the official client waiting.
import { setTimeout as delay } from "node:timers/promises";
import OpenAI from "openai";
import { expect, test } from "vitest";
import { createBatch, requestLine, settled } from "./batch-harness.ts";
import { BASE_MODEL, createKey, testServer } from "./harness.ts";

async function limited(body: object) {
  const clock = { now: 1_800_000_000_000 };
  const server = await testServer({ apiKeys: ["sk-of-the-settings"] }, { now: () => clock.now });
  const { key, prefix } = await createKey(server, body, "sk-of-the-settings");
  return { clock, server, key, prefix, headers: { authorization: `Bearer ${key}` } };
}

test("requests: headers, then 429, then again", async () => {
  const { clock, server, headers, prefix } = await limited({ requests_per_minute: 2 });
  const ask = () => server.app.inject({ url: "/v1/files", headers });
  expect((await ask()).headers).toMatchObject({
    "x-ratelimit-limit-requests": "2",
    "x-ratelimit-remaining-requests": "1",
    "x-ratelimit-reset-requests": "30s",
  });
  expect((await ask()).headers).not.toHaveProperty("x-ratelimit-limit-tokens");
  const refused = await ask();
  expect(refused.statusCode).toBe(429);
  expect(refused.headers).toMatchObject({
    "retry-after": "30",
    "x-should-retry": "true",
    "x-ratelimit-remaining-requests": "0",
    "x-ratelimit-reset-requests": "1m0s",
  });
  expect(refused.json()).toEqual({
    error: {
      message: `Rate limit reached for requests of the key ${prefix}…: Limit 2 a minute. Please try again in 30s.`,
      type: "requests",
      param: null,
      code: "rate_limit_exceeded",
    },
  });
  clock.now += 30_000;
  expect((await ask()).statusCode).toBe(200);
  const owner = await server.app.inject({
    url: "/v1/files",
    headers: { authorization: "Bearer sk-of-the-settings" },
  });
  expect(owner.statusCode).toBe(200);
  expect(Object.keys(owner.headers).filter((name) => name.startsWith("x-ratelimit"))).toEqual([]);
});

test.each([false, true])("tokens of an answer count, streamed: %s", async (stream) => {
  const { clock, server, headers } = await limited({ tokens_per_minute: 15 });
  const chat = () =>
    server.app.inject({
      method: "POST",
      url: "/v1/chat/completions",
      headers,
      payload: { model: BASE_MODEL, messages: [{ role: "user", content: "Hi" }], stream },
    });
  // 7 tokens of the prompt and 3 of the answer each.
  expect((await chat()).statusCode).toBe(200);
  expect((await chat()).statusCode).toBe(200);
  const refused = await chat();
  expect(refused.statusCode).toBe(429);
  expect(refused.headers).toMatchObject({
    "x-ratelimit-limit-tokens": "15",
    "x-ratelimit-remaining-tokens": "0",
    "x-ratelimit-reset-tokens": "1m20s",
    "retry-after": "24",
  });
  expect(refused.json()).toMatchObject({ error: { type: "tokens", code: "rate_limit_exceeded" } });
  clock.now += 24_000;
  expect((await chat()).statusCode).toBe(200);
});

test("an answer that breaks off is paid for as far as it went", async () => {
  const { server, headers } = await limited({ tokens_per_minute: 100 });
  server.engine.answer = async function* () {
    yield { type: "prompt", promptTokens: 7 };
    yield { type: "text-delta", index: 0, text: "He" };
  };
  const answer = await server.app.inject({
    method: "POST",
    url: "/v1/chat/completions",
    headers,
    payload: { model: BASE_MODEL, messages: [{ role: "user", content: "Hi" }] },
  });
  expect(answer.statusCode).toBe(503);
  expect(answer.headers["x-ratelimit-remaining-tokens"]).toBe("92");
});

test("a client that leaves its stream pays for what it got", async () => {
  const server = await testServer({ apiKeys: ["sk-of-the-settings"] }, { now: () => 1_800_000_000_000 });
  const { key } = await createKey(server, { tokens_per_minute: 10_000 }, "sk-of-the-settings");
  server.engine.answer = async function* ({ signal }) {
    yield { type: "prompt", promptTokens: 7 };
    for (let count = 0; count < 5; count++) yield { type: "text-delta", index: 0, text: "word " };
    await new Promise((resolve) => signal.addEventListener("abort", resolve));
  };
  const client = new OpenAI({ baseURL: `${await server.listen()}/v1`, apiKey: key, maxRetries: 0 });
  const stream = await client.chat.completions.create({
    model: BASE_MODEL,
    messages: [{ role: "user", content: "Hi" }],
    stream: true,
  });
  let pieces = 0;
  for await (const chunk of stream) {
    if ((chunk.choices[0]?.delta.content ?? "") !== "" && ++pieces === 5) break;
  }
  await expect
    .poll(async () => {
      const { response } = await client.files.list().withResponse();
      return Number(response.headers.get("x-ratelimit-remaining-tokens"));
    })
    .toBe(10_000 - 7 - 5);
});

test("lines of a batch count against the key that made it, and wait until half of its allowance is there", async () => {
  const clock = { now: Date.now() };
  const server = await testServer(
    { apiKeys: ["sk-of-the-settings"] },
    { now: () => clock.now, runsBatches: true },
  );
  const { key } = await createKey(server, { tokens_per_minute: 60_000 }, "sk-of-the-settings");
  let promptTokens = 30_500;
  server.engine.answer = async function* () {
    yield { type: "prompt", promptTokens };
    yield { type: "finish", index: 0, reason: "stop", completionTokens: 0 };
  };
  const client = new OpenAI({ baseURL: `${await server.listen()}/v1`, apiKey: key, maxRetries: 0 });
  const chat = () =>
    client.chat.completions.create({ model: BASE_MODEL, messages: [{ role: "user", content: "Hi" }] });
  const left = async () => {
    const { response } = await client.files.list().withResponse();
    return Number(response.headers.get("x-ratelimit-remaining-tokens"));
  };
  await chat();
  promptTokens = 100;
  const { id } = await createBatch(client, [requestLine("one"), requestLine("two")]);
  await settled(client, id, "in_progress");
  // It is turned away once, and then waits.
  await delay(200);
  expect(server.engine.requests).toHaveLength(1);
  await chat();
  expect(await left()).toBe(29_400);
  clock.now += 1000;
  expect(await settled(client, id)).toMatchObject({ request_counts: { completed: 2, failed: 0 } });
  expect(await left()).toBe(30_200);
});

test("the official client waits and tries again", async () => {
  const server = await testServer({ apiKeys: ["sk-of-the-settings"] });
  const { key } = await createKey(server, { requests_per_minute: 60 }, "sk-of-the-settings");
  const baseURL = `${await server.listen()}/v1`;
  const impatient = new OpenAI({ baseURL, apiKey: key, maxRetries: 0 });
  const failures = await Promise.allSettled(Array.from({ length: 70 }, async () => impatient.files.list()));
  const refused = failures.filter((each) => each.status === "rejected");
  expect(refused.length).toBeGreaterThan(0);
  expect(refused[0]?.reason).toBeInstanceOf(OpenAI.RateLimitError);
  const patient = new OpenAI({ baseURL, apiKey: key, maxRetries: 3 });
  expect((await patient.files.list()).data).toEqual([]);
});
