// Responses in the background: answered at once, read while they run, cancelled, deleted, and ended with the server.
import { expect, test } from "vitest";
import type { CompletionEvent, CompletionRequest } from "../../src/serving/engine.ts";
import { DEFAULT_PROJECT, newId } from "../../src/wire/ids.ts";
import { BASE_MODEL, createKey, testServer } from "./harness.ts";
import type { TestServer } from "./harness.ts";

interface Answer {
  id: string;
  status: string;
}

async function begin(server: TestServer, body: object = {}, headers = {}) {
  const payload = { model: BASE_MODEL, input: "Hi", background: true, ...body };
  return server.app.inject({ method: "POST", url: "/v1/responses", payload, headers });
}

const get = async (server: TestServer, id: string) =>
  (await server.app.inject({ url: `/v1/responses/${id}` })).json<Answer>();

const cancel = (server: TestServer, id: string) =>
  server.app.inject({ method: "POST", url: `/v1/responses/${id}/cancel` });

/** An engine that goes on when it is told to, and stops when its request is aborted. */
function held(server: TestServer) {
  const told: { prompt?: () => void; finish?: () => void; aborted: boolean } = { aborted: false };
  server.engine.answer = async function* ({ signal }: CompletionRequest): AsyncGenerator<CompletionEvent> {
    const aborted = new Promise<void>((resolve) =>
      signal.addEventListener("abort", () => {
        told.aborted = true;
        resolve();
      }),
    );
    await Promise.race([aborted, new Promise<void>((resolve) => (told.prompt = resolve))]);
    if (signal.aborted) return;
    yield { type: "prompt", promptTokens: 7 };
    yield { type: "text-delta", index: 0, text: "Done" };
    await Promise.race([aborted, new Promise<void>((resolve) => (told.finish = resolve))]);
    if (signal.aborted) return;
    yield { type: "finish", index: 0, reason: "stop", completionTokens: 1 };
  };
  return told;
}

test("queued, in progress, completed", async () => {
  const server = await testServer();
  const told = held(server);
  const answer = await begin(server);
  expect(answer.statusCode).toBe(200);
  const { id, ...begun } = answer.json<Answer>();
  expect(begun).toMatchObject({ status: "queued", background: true, output: [], usage: null });
  expect(await get(server, id)).toMatchObject({ status: "queued" });
  // It cannot be gone on from yet.
  const next = await begin(server, { previous_response_id: id });
  expect(next.json()).toMatchObject({ error: { param: "previous_response_id", code: "invalid_value" } });
  await expect.poll(() => told.prompt).toBeDefined();
  told.prompt?.();
  await expect.poll(async () => (await get(server, id)).status).toBe("in_progress");
  await expect.poll(() => told.finish).toBeDefined();
  told.finish?.();
  await expect.poll(async () => (await get(server, id)).status).toBe("completed");
  expect(await get(server, id)).toMatchObject({
    output: [{ content: [{ text: "Done" }] }],
    usage: { total_tokens: 8 },
  });
});

test("cancelled while it runs, and cancelled again", async () => {
  const server = await testServer();
  const told = held(server);
  const { id } = (await begin(server)).json<Answer>();
  await expect.poll(() => told.prompt).toBeDefined();
  const answer = await cancel(server, id);
  expect(answer.statusCode).toBe(200);
  expect(answer.json()).toMatchObject({ id, status: "cancelled" });
  await expect.poll(() => told.aborted).toBe(true);
  expect((await cancel(server, id)).json()).toEqual(answer.json());
  expect(await get(server, id)).toEqual(answer.json());
});

test("cancelling one that has ended tells how it ended; one that was never in the background is refused", async () => {
  const server = await testServer();
  const { id } = (await begin(server)).json<Answer>();
  await expect.poll(async () => (await get(server, id)).status).toBe("completed");
  expect((await cancel(server, id)).json()).toMatchObject({ id, status: "completed" });
  const other = (await begin(server, { background: false })).json<Answer>();
  const refused = await cancel(server, other.id);
  expect(refused.statusCode).toBe(400);
  expect(refused.json()).toMatchObject({
    error: { message: expect.stringMatching(/^Cannot cancel a synchronous response\./) as string },
  });
});

test("deleted while it runs, it stops and is gone", async () => {
  const server = await testServer();
  const told = held(server);
  const { id } = (await begin(server)).json<Answer>();
  await expect.poll(() => told.prompt).toBeDefined();
  const answer = await server.app.inject({ method: "DELETE", url: `/v1/responses/${id}` });
  expect(answer.json()).toMatchObject({ deleted: true });
  await expect.poll(() => told.aborted).toBe(true);
  expect(await get(server, id)).toMatchObject({ error: { code: null } });
});

test("one that fails says why", async () => {
  const server = await testServer();
  server.engine.answer = async function* () {
    yield { type: "prompt", promptTokens: 1 };
    throw new Error("a secret bug");
  };
  const { id } = (await begin(server)).json<Answer>();
  await expect.poll(async () => (await get(server, id)).status).toBe("failed");
  expect(await get(server, id)).toMatchObject({
    error: { code: "server_error", message: expect.stringMatching(/^The server had an error/) as string },
  });
});

test("a server that stops lets it finish within the grace, then fails it", async () => {
  const server = await testServer({ shutdownGraceMs: 300 });
  const told = held(server);
  const finishing = (await begin(server)).json<Answer>();
  await expect.poll(() => told.prompt).toBeDefined();
  const stuck = held(server);
  const cutOff = (await begin(server)).json<Answer>();
  await expect.poll(() => stuck.prompt).toBeDefined();
  const stopped = server.stop();
  told.prompt?.();
  await expect.poll(() => told.finish).toBeDefined();
  await expect.poll(() => told.finish).toBeDefined();
  told.finish?.();
  await stopped;
  expect(stuck.aborted).toBe(true);
  const next = await testServer({ homeDirectory: server.home });
  expect(await get(next, finishing.id)).toMatchObject({ status: "completed" });
  expect(await get(next, cutOff.id)).toMatchObject({
    status: "failed",
    error: { message: expect.stringMatching(/the server is stopping/) as string },
  });
});

test("what a killed server left unfinished is failed at the next start", async () => {
  const server = await testServer();
  const { id } = (await begin(server, { background: false })).json<Answer>();
  const kept = await server.stores.responses.get(DEFAULT_PROJECT, id);
  if (kept === null) throw new Error("not kept");
  const running = { status: "in_progress" as const, background: true, output: [] };
  const left = { ...kept.response, ...running, id: newId("response") };
  await server.stores.responses.create(DEFAULT_PROJECT, { ...kept, response: left });
  await server.stop();
  const next = await testServer({ homeDirectory: server.home });
  expect(await get(next, left.id)).toMatchObject({
    status: "failed",
    error: { code: "server_error", message: expect.stringMatching(/^The server ended before/) as string },
  });
  expect(await get(next, id)).toEqual(kept.response);
});

test("no more than its limit run at a time", async () => {
  const server = await testServer();
  held(server);
  const answers = await Promise.all(Array.from({ length: 129 }, () => begin(server)));
  const refused = answers.filter(({ statusCode }) => statusCode !== 200);
  expect(refused).toHaveLength(1);
  expect(refused[0]?.statusCode).toBe(429);
  expect(refused[0]?.headers["retry-after"]).toBe("2");
  expect(refused[0]?.json()).toMatchObject({ error: { code: "server_is_overloaded" } });
  const { id } = answers.find(({ statusCode }) => statusCode === 200)?.json<Answer>() ?? { id: "" };
  await cancel(server, id);
  await expect.poll(async () => (await begin(server)).statusCode).toBe(200);
});

test("its tokens count against the key's limit", async () => {
  const server = await testServer({ apiKeys: ["sk-of-the-settings"] }, { now: () => 1_800_000_000_000 });
  const { key } = await createKey(server, { tokens_per_minute: 10_000 }, "sk-of-the-settings");
  const headers = { authorization: `Bearer ${key}` };
  await begin(server, {}, headers);
  await expect
    .poll(async () => {
      const answer = await server.app.inject({ url: "/v1/files", headers });
      return answer.headers["x-ratelimit-remaining-tokens"];
    })
    .toBe("9990");
});
