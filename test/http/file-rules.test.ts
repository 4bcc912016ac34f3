// What OpenAI's contract says of files beyond the simple way: default lives, bounds of expires_after, filters together with
// pages, and files whose life is over.
import { expect, test } from "vitest";
import { BASE_MODEL, form, testServer, upload } from "./harness.ts";
import type { TestServer } from "./harness.ts";

const file = { name: "file", filename: "a.jsonl", content: "{}" };

const send = (server: TestServer, members: Record<string, string>) =>
  server.app.inject({
    method: "POST",
    url: "/v1/files",
    ...form([...Object.entries(members).map(([name, value]) => ({ name, value })), file]),
  });

test.each([
  ["batch", 2_592_000],
  ["fine-tune", null],
  ["assistants", null],
  ["vision", null],
  ["user_data", null],
  ["evals", null],
])("a file for %s lives %s seconds unless told otherwise", async (purpose, seconds) => {
  const server = await testServer();
  const answer = (await send(server, { purpose })).json<{ created_at: number; expires_at: number | null }>();
  expect(answer.expires_at).toBe(seconds === null ? null : answer.created_at + seconds);
});

test.each([
  [{ anchor: "created_at", seconds: "2592001" }, "expires_after.seconds", "integer_above_max_value"],
  [{ anchor: "created_at", seconds: "3599" }, "expires_after.seconds", "integer_below_min_value"],
  [{ anchor: "created_at", seconds: "soon" }, "expires_after.seconds", "invalid_type"],
  [{ anchor: "created_at" }, "expires_after.seconds", "missing_required_parameter"],
  [{ anchor: "last_active_at", seconds: "3600" }, "expires_after.anchor", "invalid_value"],
  [{ anchor: "created_at", seconds: "3600", days: "1" }, "expires_after.days", "unknown_parameter"],
])("expires_after with %j is refused", async (members, param, code) => {
  const server = await testServer();
  const pairs = Object.entries(members).map(([key, value]) => [`expires_after[${key}]`, value]);
  const answer = await send(server, {
    purpose: "fine-tune",
    ...(Object.fromEntries(pairs) as Record<string, string>),
  });
  expect(answer.statusCode).toBe(400);
  expect(answer.json()).toMatchObject({ error: { param, code } });
});

test.each([
  ["before the file", 12, 0],
  ["behind the file", 0, 12],
])("of many members that nobody knows, %s, the first is named", async (_name, before, behind) => {
  const server = await testServer();
  const strays = (count: number) =>
    Array.from({ length: count }, (_, index) => ({ name: `stray_${index}`, value: "x" }));
  const answer = await server.app.inject({
    method: "POST",
    url: "/v1/files",
    ...form([...strays(before), file, ...strays(behind), { name: "purpose", value: "fine-tune" }]),
  });
  expect(answer.statusCode).toBe(400);
  expect(answer.json()).toMatchObject({
    error: { message: "Unknown parameter: 'stray_0'.", param: "stray_0", code: "unknown_parameter" },
  });
});

test("a form of more members than there can be is refused in words", async () => {
  const server = await testServer();
  const members = Array.from({ length: 12 }, (_, i) => [`expires_after[${i}]`, "1"] as const);
  const answer = await send(server, { purpose: "fine-tune", ...Object.fromEntries(members) });
  expect(answer.statusCode).toBe(400);
  expect(answer.json()).toMatchObject({
    error: {
      message:
        "Your form has more members than any that is right. Expected a 'file' and a 'purpose', each once, and at most 10 members beside the file.",
      param: "file",
    },
  });
});

test.each(["purpose", "expires_after[seconds]", "expires_after[anchor]"])(
  "%s twice in a form is refused by name",
  async (name) => {
    const server = await testServer();
    const members = [
      { name: "purpose", value: "fine-tune" },
      { name: "expires_after[seconds]", value: "3600" },
      { name: "expires_after[anchor]", value: "created_at" },
    ];
    const again = { name, value: "batch" };
    const answer = await server.app.inject({
      method: "POST",
      url: "/v1/files",
      ...form([...members, again, file]),
    });
    expect([answer.statusCode, answer.json()]).toMatchObject([
      400,
      { error: { param: name, code: "invalid_value", message: expect.stringContaining("twice") as string } },
    ]);
  },
);

test.each(["3600", "2592000"])("a life of %s seconds is allowed", async (seconds) => {
  const server = await testServer();
  const members = { "expires_after[seconds]": seconds, "expires_after[anchor]": "created_at" };
  const answer = (await send(server, { ...members, purpose: "batch" })).json<Record<string, number>>();
  expect(answer["expires_at"]).toBe(Number(answer["created_at"]) + Number(seconds));
});

test("purpose, order, limit and after work together", async () => {
  const server = await testServer();
  const ids: Record<string, string[]> = { "fine-tune": [], batch: [] };
  for (let index = 0; index < 8; index++) {
    const purpose = index % 2 === 0 ? "batch" : "fine-tune";
    ids[purpose]?.push((await upload(server, undefined, { purpose })).id);
  }
  for (const order of ["asc", "desc"]) {
    for (const [purpose, created] of Object.entries(ids)) {
      const seen: string[] = [];
      for (let hasMore = true; hasMore;) {
        const after = seen.at(-1);
        const query = { purpose, order, limit: "3", ...(after === undefined ? {} : { after }) };
        const { body } = await server.app.inject({ url: "/v1/files", query });
        const page = JSON.parse(body) as { data: { id: string }[]; has_more: boolean };
        seen.push(...page.data.map(({ id }) => id));
        hasMore = page.has_more;
      }
      expect(seen).toEqual(order === "asc" ? created : [...created].reverse());
    }
  }
});

test("an expired file is in no list, and no job can be made on it", async () => {
  let now = Date.now();
  const server = await testServer({}, { now: () => now });
  const members = { "expires_after[seconds]": "3600", "expires_after[anchor]": "created_at" };
  const { id } = (await send(server, { ...members, purpose: "fine-tune" })).json<{ id: string }>();
  now += 3_600_000;
  expect((await server.app.inject("/v1/files")).json()).toMatchObject({ data: [] });
  const job = await server.app.inject({
    method: "POST",
    url: "/v1/fine_tuning/jobs",
    payload: { model: BASE_MODEL, training_file: id },
  });
  expect([job.statusCode, job.json<{ error: { param: string } }>().error.param]).toEqual([
    400,
    "training_file",
  ]);
});
