// The body of a request: whole UTF-8, and none where the operation takes none.
import { expect, test } from "vitest";
import { pathParameters } from "../../src/wire/operations/operation.ts";
import { OPERATIONS } from "../../src/wire/operations.ts";
import { ask, form, testServer } from "./harness.ts";

const json = { "content-type": "application/json" };

const WITHOUT_BODY = OPERATIONS.filter(
  ({ body, form: parts, archive }) => body === undefined && parts === undefined && archive === undefined,
);

/** What an operation cannot do without in its address. */
const QUERIES: Readonly<Record<string, string>> = { "/tunesmith/models/{model}/export": "?format=peft" };

/** With ids that nobody has given out: what is wrong with the body shows first. */
function addressOf(path: string): string {
  const address = pathParameters(path).reduce((url, name) => url.replace(`{${name}}`, "none"), path);
  return `${address}${QUERIES[path] ?? ""}`;
}

test("operations without a body are more than a few", () => {
  expect(WITHOUT_BODY.filter(({ method }) => method === "POST").map(({ id }) => id)).toEqual(
    expect.arrayContaining(["cancelFineTuningJob", "cancelUpload", "cancelBatch", "cancelResponse"]),
  );
});

test.each(WITHOUT_BODY.map(({ method, path }) => ({ method, path })))(
  "$method $path takes no body but an empty one",
  async ({ method, path }) => {
    const { app } = await testServer();
    const send = (payload: string, headers: Record<string, string> = json) =>
      app.inject({ method, url: addressOf(path), payload, headers });
    for (const nothing of method === "GET" ? [""] : ["", "{}"]) {
      expect([200, 404]).toContain((await send(nothing)).statusCode);
    }
    const something = await send('{"foo":1}');
    expect(something.statusCode).toBe(400);
    if (method === "GET") {
      expect(something.json()).toMatchObject({
        error: {
          message: "GET on this address takes no body, but one was sent. Send the request without it.",
        },
      });
    } else {
      expect(something.json()).toMatchObject({ error: { code: "unknown_parameter", param: "foo" } });
      expect((await send("[]")).json()).toMatchObject({ error: { code: "invalid_type" } });
      expect((await send("null")).json()).toMatchObject({ error: { code: "invalid_type" } });
    }
    const { payload, headers } = form([{ name: "foo", value: "1" }]);
    expect((await app.inject({ method, url: addressOf(path), payload, headers })).statusCode).toBe(400);
  },
);

test("bytes that are no UTF-8 are refused, not replaced", async () => {
  const { app, engine } = await testServer();
  const url = "/v1/chat/completions";
  const text = JSON.stringify({
    model: "smollm2-135m-instruct",
    messages: [{ role: "user", content: "h?i" }],
  });
  const bytes = Buffer.from(text);
  bytes[text.indexOf("?")] = 0xff;
  const answer = await app.inject({ method: "POST", url, payload: bytes, headers: json });
  expect(answer.statusCode).toBe(400);
  expect(answer.json()).toMatchObject({
    error: {
      message:
        "We could not parse the JSON body of your request. Expected one JSON object, encoded as UTF-8.",
      type: "invalid_request_error",
    },
  });
  expect(engine.requests).toEqual([]);
});

test("a byte order mark in front is skipped; all of Unicode behind it arrives as it was sent", async () => {
  const server = await testServer();
  const content = "grüße 🌮 \u{10ffff} \ufeff";
  const body = JSON.stringify({ model: "smollm2-135m-instruct", messages: [{ role: "user", content }] });
  const marked = await server.app.inject({
    method: "POST",
    url: "/v1/chat/completions",
    payload: Buffer.from(`\ufeff${body}`),
    headers: json,
  });
  expect(marked.statusCode).toBe(200);
  expect((await ask(server, { messages: [{ role: "user", content }] })).statusCode).toBe(200);
  const heard = server.engine.requests.map(({ messages }) => messages);
  expect(heard).toHaveLength(2);
  expect(heard[0]).toEqual(heard[1]);
  expect(JSON.stringify(heard[0])).toContain(content);
});
