// What is kept of responses: reading, the items of their conversations, deleting, and how long.
import { expect, test } from "vitest";
import { BASE_MODEL, testServer } from "./harness.ts";
import type { TestServer } from "./harness.ts";

interface Answer {
  id: string;
  output: { id: string }[];
}

interface List {
  data: { id: string }[];
}

async function respond(server: TestServer, body: object) {
  const payload = { model: BASE_MODEL, input: "Hi", ...body };
  return server.app.inject({ method: "POST", url: "/v1/responses", payload });
}

const get = (server: TestServer, path: string) => server.app.inject({ url: `/v1/responses/${path}` });

test("kept responses are read, their items listed, and deleted; the next one keeps the conversation", async () => {
  const server = await testServer();
  const first = (await respond(server, {})).json<Answer>();
  expect((await get(server, first.id)).json()).toEqual(first);
  const second = (await respond(server, { previous_response_id: first.id, input: "More" })).json<Answer>();
  const removed = await server.app.inject({ method: "DELETE", url: `/v1/responses/${first.id}` });
  expect(removed.json()).toEqual({ id: first.id, object: "response", deleted: true });
  expect((await get(server, first.id)).statusCode).toBe(404);
  const list = async (query: string) => (await get(server, `${second.id}/input_items?${query}`)).json<List>();
  const all = await list("order=asc");
  expect(all).toMatchObject({
    object: "list",
    has_more: false,
    data: [
      { type: "message", role: "user", status: "completed", content: [{ type: "input_text", text: "Hi" }] },
      { id: first.output[0]?.id, role: "assistant", content: [{ type: "output_text" }] },
      { role: "user", content: [{ text: "More" }] },
    ],
  });
  const ids = all.data.map(({ id }) => id);
  expect(new Set(ids).size).toBe(3);
  expect(await list("limit=2")).toMatchObject({ has_more: true, first_id: ids[2], last_id: ids[1] });
  expect((await list(`limit=2&after=${ids[1]}`)).data.map(({ id }) => id)).toEqual([ids[0]]);
  expect((await get(server, `${second.id}/input_items?after=msg_nobody`)).json()).toMatchObject({
    error: { param: "after", code: "invalid_value" },
  });
  const third = await respond(server, { previous_response_id: second.id });
  expect(third.statusCode).toBe(200);
});

test("items that are sent back keep their ids, but no id comes twice", async () => {
  const server = await testServer();
  const message = { type: "message", id: "msg_1", role: "user", content: "a" };
  const { id } = (await respond(server, { input: [message, message] })).json<Answer>();
  const { data } = (await get(server, `${id}/input_items?order=asc`)).json<List>();
  expect(data.map((item) => item.id)).toEqual(["msg_1", expect.stringMatching(/^msg_[0-9a-f]{48}$/)]);
});

test("store: false keeps nothing", async () => {
  const server = await testServer();
  const { id } = (await respond(server, { store: false })).json<Answer>();
  expect((await get(server, id)).json()).toEqual({
    error: {
      message: `Response with id '${id}' not found.`,
      type: "invalid_request_error",
      param: null,
      code: null,
    },
  });
});

test("responses are kept for 30 days", async () => {
  const clock = { now: 1_800_000_000_000 };
  const server = await testServer({}, { now: () => clock.now });
  const { id } = (await respond(server, {})).json<Answer>();
  clock.now += 30 * 86_400_000 - 1000;
  await server.stores.responses.sweep();
  expect((await get(server, id)).statusCode).toBe(200);
  clock.now += 1000;
  expect((await get(server, id)).statusCode).toBe(404);
  await server.stores.responses.sweep();
  clock.now -= 1000;
  expect((await get(server, id)).statusCode).toBe(404);
});

test("items of kept answers may be referred to, in their own project and while they are kept", async () => {
  const server = await testServer();
  await server.stores.projects.create({ id: "proj_other", name: "Other" });
  const first = (await respond(server, {})).json<Answer>();
  const id = first.output[0]?.id ?? "";
  const input = [
    { role: "user", content: "Hi" },
    { type: "item_reference", id },
    { role: "user", content: "More" },
  ];
  const answer = await respond(server, { input });
  expect(answer.statusCode).toBe(200);
  expect(server.engine.requests[1]?.messages).toEqual([
    { role: "user", content: "Hi" },
    { role: "assistant", content: "Hello there!" },
    { role: "user", content: "More" },
  ]);
  const items = (await get(server, `${answer.json<Answer>().id}/input_items?order=asc`)).json<List>();
  expect(items.data[1]).toEqual(first.output[0]);
  const foreign = await server.app.inject({
    method: "POST",
    url: "/v1/responses",
    payload: { model: BASE_MODEL, input },
    headers: { "openai-project": "proj_other" },
  });
  expect(foreign.statusCode).toBe(404);
  expect(foreign.json()).toEqual({
    error: {
      message: `Item with id '${id}' not found. Items are not persisted when \`store\` is set to false. Try again with \`store\` set to true, or remove this item from your input.`,
      type: "invalid_request_error",
      param: "input",
      code: null,
    },
  });
  await server.app.inject({ method: "DELETE", url: `/v1/responses/${first.id}` });
  expect((await respond(server, { input })).statusCode).toBe(404);
  const tooMany = Array.from({ length: 1001 }, () => ({ type: "item_reference", id }));
  expect((await respond(server, { input: tooMany })).json()).toMatchObject({
    error: { param: "input", code: "invalid_value" },
  });
});
