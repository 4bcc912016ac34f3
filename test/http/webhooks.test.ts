// Webhooks with a receiver that really listens, checked by the official client's own `unwrap`.
import { createServer } from "node:http";
import type { IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";
import OpenAI from "openai";
import { expect, onTestFinished, test } from "vitest";
import type { Config } from "../../src/config.ts";
import { batchServer, createBatch, requestLine, settled } from "./batch-harness.ts";
import { succeedJob, testServer, upload } from "./harness.ts";
import type { TestServer } from "./harness.ts";

interface Received {
  headers: IncomingHttpHeaders;
  body: string;
}

/** A receiver that answers with the given statuses, one after the other, then with 204. */
async function receiver(statuses: number[] = []): Promise<{ url: string; received: Received[] }> {
  const received: Received[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      received.push({ headers: request.headers, body: Buffer.concat(chunks).toString() });
      response.writeHead(statuses.shift() ?? 204, { location: "/elsewhere" }).end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void server.close());
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`, received };
}

const ALLOWED: Partial<Config> = { webhookPrivateHosts: ["127.0.0.1"] };

async function register(
  server: TestServer,
  url: string,
  eventTypes?: string[],
): Promise<{ id: string; secret: string }> {
  const answer = await server.app.inject({
    method: "POST",
    url: "/tunesmith/webhooks",
    payload: { url, event_types: eventTypes },
  });
  if (answer.statusCode !== 200) throw new Error(answer.body);
  return answer.json();
}

async function until(what: string, holds: () => boolean): Promise<void> {
  const deadline = Date.now() + 20_000;
  while (!holds()) {
    if (Date.now() > deadline) throw new Error(`waited in vain until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const unwrapped = (secret: string, { body, headers }: Received) =>
  new OpenAI({ apiKey: "x", webhookSecret: secret }).webhooks.unwrap(body, headers);

test("a batch's end reaches the receiver, and the official client accepts it", async () => {
  const { server, client } = await batchServer(ALLOWED);
  const { url, received } = await receiver();
  const { secret } = await register(server, url);
  expect(secret).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/);
  const good = await settled(client, (await createBatch(client, [requestLine("a")])).id);
  await until("the first has come", () => received.length === 1);
  const bad = await settled(client, (await createBatch(client, "nonsense\n")).id);
  await until("both have come", () => received.length === 2);

  const [first, second] = received as [Received, Received];
  expect(await unwrapped(secret, first)).toEqual({
    id: expect.stringMatching(/^evt_[0-9a-f]{32}$/) as string,
    object: "event",
    created_at: expect.any(Number) as number,
    type: "batch.completed",
    data: { id: good.id },
  });
  expect(await unwrapped(secret, second)).toMatchObject({ type: "batch.failed", data: { id: bad.id } });
  expect(first.headers["webhook-id"]).toMatch(/^wh_[0-9a-f]{32}$/);
  expect(first.headers["webhook-id"]).not.toBe(second.headers["webhook-id"]);
  expect(first.headers["content-type"]).toBe("application/json");

  const other = `whsec_${Buffer.alloc(32).toString("base64")}`;
  await expect(unwrapped(other, first)).rejects.toThrow("signature");
  await expect(
    unwrapped(secret, { ...first, body: first.body.replace("completed", "failed") }),
  ).rejects.toThrow();
});

test("jobs tell of their ends too, and a webhook gets only the types it asked for", async () => {
  const server = await testServer(ALLOWED);
  await server.listen();
  const all = await receiver();
  const some = await receiver();
  await register(server, all.url);
  await register(server, some.url, ["fine_tuning.job.cancelled"]);
  const training_file = (await upload(server)).id;
  const create = async () => {
    const answer = await server.app.inject({
      method: "POST",
      url: "/v1/fine_tuning/jobs",
      payload: { model: "gpt-4o-mini", training_file },
    });
    return answer.json<{ id: string }>().id;
  };
  const first = await create();
  await succeedJob(server, first);
  const second = await create();
  await server.app.inject({ method: "POST", url: `/v1/fine_tuning/jobs/${second}/cancel` });
  const third = await create();
  await server.stores.queue.claim("w", Date.now() + 60_000);
  await server.stores.queue.failJob({ jobId: third, owner: "w" }, { code: "x", param: null, message: "y" });
  await until("all have come", () => all.received.length === 3 && some.received.length === 1);
  const told = all.received.map(({ body }) => {
    const { type, data } = JSON.parse(body) as { type: string; data: { id: string } };
    return [type, data.id];
  });
  expect(told.sort()).toEqual(
    [
      ["fine_tuning.job.succeeded", first],
      ["fine_tuning.job.cancelled", second],
      ["fine_tuning.job.failed", third],
    ].sort(),
  );
  expect(JSON.parse(some.received[0]?.body ?? "")).toMatchObject({ data: { id: second } });
});

test("what the receiver refuses is sent again: the same id and body, a new time, a valid signature", async () => {
  const { server, client } = await batchServer(ALLOWED);
  // A redirection is not followed.
  const { url, received } = await receiver([500, 307]);
  const { secret } = await register(server, url);
  await settled(client, (await createBatch(client, [requestLine("a")])).id);
  await until("it was refused", () => received.length === 1);
  await until("it has come again", () => received.length === 2);
  const [first, again] = received as [Received, Received];
  expect(again.headers["webhook-id"]).toBe(first.headers["webhook-id"]);
  expect(again.body).toBe(first.body);
  expect(Number(again.headers["webhook-timestamp"])).toBeGreaterThan(
    Number(first.headers["webhook-timestamp"]),
  );
  expect(await unwrapped(secret, again)).toMatchObject({ type: "batch.completed" });
}, 30_000);

test("register, list, delete; the secret is shown once", async () => {
  const server = await testServer(ALLOWED);
  const created = await register(server, "https://example.com/hook", ["batch.completed"]);
  const list = (await server.app.inject({ url: "/tunesmith/webhooks" })).json<{ data: object[] }>();
  expect(list).toEqual({
    object: "list",
    has_more: false,
    data: [
      {
        id: created.id,
        object: "tunesmith.webhook",
        created_at: expect.any(Number) as number,
        url: "https://example.com/hook",
        event_types: ["batch.completed"],
      },
    ],
  });
  const remove = () => server.app.inject({ method: "DELETE", url: `/tunesmith/webhooks/${created.id}` });
  expect((await remove()).json()).toEqual({
    id: created.id,
    object: "tunesmith.webhook.deleted",
    deleted: true,
  });
  expect((await remove()).statusCode).toBe(404);
});

test.each([
  { body: { url: "http://example.com" }, param: "url", message: "http is for hosts named" },
  {
    body: { url: "https://169.254.169.254/" },
    param: "url",
    message: "169.254.169.254 is no public address",
  },
  {
    body: { url: "https://x.org", event_types: ["job.done"] },
    param: "event_types[0]",
    message: "Supported",
  },
  { body: { url: "https://x.org", event_types: [] }, param: "event_types", message: "empty array" },
  { body: { url: "https://x.org", retries: 3 }, param: "retries", message: "Unknown parameter" },
  { body: {}, param: "url", message: "Missing required parameter" },
])("$body is refused", async ({ body, param, message }) => {
  const server = await testServer();
  const answer = await server.app.inject({ method: "POST", url: "/tunesmith/webhooks", payload: body });
  expect(answer.statusCode).toBe(400);
  expect(answer.json()).toMatchObject({
    error: { param, message: expect.stringContaining(message) as string },
  });
});

test("a project has a bounded number of webhooks", async () => {
  const server = await testServer();
  for (let i = 0; i < 20; i += 1) await register(server, `https://example.com/${i}`);
  await expect(register(server, "https://example.com/more")).rejects.toThrow(
    "This project has 20 webhooks already, the most that it may have. Delete one first.",
  );
});
