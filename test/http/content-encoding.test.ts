// Content-Encoding: what says it is compressed is refused by name, whatever it holds.
import { expect, test } from "vitest";
import { BASE_MODEL, form, messages, testServer } from "./harness.ts";

const json = {
  url: "/v1/chat/completions",
  payload: JSON.stringify({ model: BASE_MODEL, messages }),
  headers: { "content-type": "application/json" },
};
const upload = {
  url: "/v1/files",
  ...form([
    { name: "file", filename: "a.jsonl", content: "{}" },
    { name: "purpose", value: "fine-tune" },
  ]),
};

test.each([
  ["br", json],
  ["gzip", upload],
  ["identity, gzip", json],
  ["x".repeat(200), upload],
])("%s is refused", async (encoding, { url, payload, headers }) => {
  const server = await testServer();
  const answer = await server.app.inject({
    method: "POST",
    url,
    payload,
    headers: { ...headers, "content-encoding": encoding },
  });
  expect(answer.statusCode).toBe(415);
  expect(answer.headers["accept-encoding"]).toBe("identity");
  expect(answer.json()).toEqual({
    error: {
      message: `Unsupported 'Content-Encoding': '${encoding.slice(0, 80)}'. Bodies are read as they are sent: send this one uncompressed, without the header.`,
      type: "invalid_request_error",
      param: null,
      code: "unsupported_content_encoding",
    },
  });
});

test.each(["identity", "Identity, identity", ""])("'%s' says nothing", async (encoding) => {
  const server = await testServer();
  for (const { url, payload, headers } of [json, upload]) {
    const answer = await server.app.inject({
      method: "POST",
      url,
      payload,
      headers: { ...headers, "content-encoding": encoding },
    });
    expect(answer.statusCode).toBe(200);
  }
});

test("without a body there is nothing that it could say", async () => {
  const { app } = await testServer();
  const answer = await app.inject({ url: "/v1/files", headers: { "content-encoding": "gzip" } });
  expect(answer.statusCode).toBe(200);
});
