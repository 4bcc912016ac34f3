// Keys and projects: making, listing and revoking them, what each scope opens, and whose objects a key sees.
import OpenAI from "openai";
import { expect, test } from "vitest";
import { createServer } from "../../src/main.ts";
import { loadConfig } from "../../src/config.ts";
import { scopeOf } from "../../src/api/scopes.ts";
import { DEFAULT_PROJECT } from "../../src/wire/ids.ts";
import type { NewKeyObject, ProjectObject } from "../../src/wire/keys.ts";
import { BASE_MODEL, createKey, testServer, upload } from "./harness.ts";
import type { TestServer } from "./harness.ts";

const bearer = (key: string) => ({ authorization: `Bearer ${key}` });

const createProject = async (server: TestServer, payload: object, key?: string) =>
  server.app.inject({
    method: "POST",
    url: "/tunesmith/projects",
    payload,
    headers: key === undefined ? {} : bearer(key),
  });

async function refusal(server: TestServer, options: object) {
  const answer = await server.app.inject({ url: "/v1/files", ...options });
  return { status: answer.statusCode, ...answer.json<{ error: object }>().error };
}

test("a key is shown once; lists show how it begins and when it was used", async () => {
  let now = 1_800_000_000_000;
  const server = await testServer({}, { now: () => now });
  const made = await createKey(server, { name: "laptop", scopes: ["admin", "read"] });
  expect(made).toEqual({
    object: "tunesmith.key",
    id: expect.stringMatching(/^key_[A-Za-z0-9]{24}$/) as string,
    created_at: 1_800_000_000,
    name: "laptop",
    project_id: DEFAULT_PROJECT,
    prefix: made.key.slice(0, 19),
    scopes: ["read", "admin"],
    requests_per_minute: null,
    tokens_per_minute: null,
    last_used_at: null,
    revoked_at: null,
    key: expect.stringMatching(/^sk-tunesmith-[A-Za-z0-9]{48}$/) as string,
  });
  const list = async () => {
    const { body } = await server.app.inject({ url: "/tunesmith/keys", headers: bearer(made.key) });
    expect(body).not.toContain(made.key);
    return (JSON.parse(body) as { data: { last_used_at: number | null }[] }).data;
  };
  expect(await list()).toMatchObject([{ id: made.id, prefix: made.prefix, last_used_at: 1_800_000_000 }]);
  now += 59_000;
  expect(await list()).toMatchObject([{ last_used_at: 1_800_000_000 }]);
  now += 1_000;
  expect(await list()).toMatchObject([{ last_used_at: 1_800_000_060 }]);
});

test("the first key must be an admin key; from then on every request needs a key", async () => {
  const server = await testServer();
  const first = await server.app.inject({ method: "POST", url: "/tunesmith/keys", payload: {} });
  expect(first.statusCode).toBe(409);
  expect(first.json()).toMatchObject({
    error: {
      message:
        "The first key must be an admin key: once there is a key, every request needs one, and only an admin key makes more. Make a key with the scope admin first.",
      param: "scopes",
    },
  });
  expect((await server.app.inject("/v1/files")).statusCode).toBe(200);
  await createKey(server, { scopes: ["admin"] });
  expect(await refusal(server, {})).toMatchObject({ status: 401, code: null });
  expect(await refusal(server, { headers: bearer("sk-tunesmith-made-up-0123456789") })).toEqual({
    status: 401,
    type: "invalid_request_error",
    code: "invalid_api_key",
    param: null,
    message:
      "Incorrect API key provided: sk-tunes*******************6789. Use a key made with 'tunesmith keys create', or one of the server's setting TUNESMITH_API_KEYS.",
  });
});

test("a revoked key is refused at once, and the last admin key cannot be revoked", async () => {
  const server = await testServer();
  const admin = await createKey(server, { scopes: ["admin"] });
  const reader = await createKey(server, { scopes: ["read"] }, admin.key);
  const revoke = (id: string) =>
    server.app.inject({ method: "DELETE", url: `/tunesmith/keys/${id}`, headers: bearer(admin.key) });
  expect((await server.app.inject({ url: "/v1/files", headers: bearer(reader.key) })).statusCode).toBe(200);
  expect((await revoke(reader.id)).json()).toEqual({ id: reader.id, object: "tunesmith.key", deleted: true });
  expect((await server.app.inject({ url: "/v1/files", headers: bearer(reader.key) })).statusCode).toBe(401);
  expect((await revoke(reader.id)).statusCode).toBe(404);
  const last = await revoke(admin.id);
  expect(last.statusCode).toBe(409);
  expect(last.body).toContain("This is the last admin key");
  const second = await createKey(server, { scopes: ["admin"] }, admin.key);
  expect((await revoke(admin.id)).statusCode).toBe(200);
  expect((await revoke(second.id)).statusCode).toBe(401);
});

test("keys of the settings own the default project and make keys; with them the first key may be any", async () => {
  const server = await testServer({ apiKeys: ["sk-of-the-settings"] });
  const key = await createKey(server, { scopes: ["read"] }, "sk-of-the-settings");
  const answer = await server.app.inject({
    method: "DELETE",
    url: `/tunesmith/keys/${key.id}`,
    headers: bearer("sk-of-the-settings"),
  });
  expect(answer.statusCode).toBe(200);
});

test.each([
  ["read", "GET", "/v1/files", undefined],
  ["read", "GET", "/v1/models", undefined],
  ["train", "POST", "/v1/fine_tuning/jobs", {}],
  ["train", "DELETE", "/v1/files/file-x", undefined],
  ["infer", "POST", "/v1/chat/completions", {}],
  ["admin", "GET", "/tunesmith/keys", undefined],
  ["admin", "POST", "/tunesmith/projects", {}],
  ["admin", "GET", "/v1/fine_tuning/checkpoints/ft:a:b:c:d/permissions", undefined],
] as const)("the scope %s is needed for %s %s", async (scope, method, url, payload) => {
  const server = await testServer();
  const admin = await createKey(server, { scopes: ["admin"] });
  const others = (["read", "train", "infer", "admin"] as const).filter((each) => each !== scope);
  const with_ = await createKey(server, { scopes: [scope] }, admin.key);
  const without = await createKey(server, { scopes: others }, admin.key);
  const ask = (key: string) =>
    server.app.inject({ method, url, headers: bearer(key), ...(payload === undefined ? {} : { payload }) });
  const refused = await ask(without.key);
  expect(refused.statusCode).toBe(403);
  expect(refused.headers["x-should-retry"]).toBe("false");
  expect(refused.json()).toEqual({
    error: {
      message: `You have insufficient permissions for this operation. Missing scopes: ${scope}. This key has: ${others.join(", ")}. Use a key with the missing scope; a key's own scopes never change.`,
      type: "invalid_request_error",
      param: null,
      code: null,
    },
  });
  expect((await ask(with_.key)).statusCode).not.toBe(403);
});

test.each([
  ["POST", "/v1/responses", "infer"],
  ["POST", "/v1/responses/:response/cancel", "infer"],
  ["GET", "/v1/responses/:response", "read"],
  ["POST", "/v1/embeddings", "infer"],
  ["POST", "/v1/batches", "infer"],
  ["POST", "/v1/completions", "infer"],
  ["POST", "/v1/uploads/:upload/parts", "train"],
  ["POST", "/v1/fine_tuning/alpha/graders/run", "train"],
  ["DELETE", "/v1/models/:model", "train"],
  ["GET", "/healthz", null],
  ["GET", "/openapi.json", null],
] as const)("%s %s needs %s", (method, url, scope) => {
  expect(scopeOf(method, url)).toBe(scope);
});

test("OpenAI-Project: a key's own project, any for an admin key, and clear refusals", async () => {
  const server = await testServer();
  const admin = await createKey(server, { scopes: ["read", "train", "admin"] });
  const project = (await createProject(server, { name: "Two" }, admin.key)).json<ProjectObject>();
  expect(project).toMatchObject({ object: "tunesmith.project", name: "Two" });
  const theirs = await createKey(server, { project_id: project.id }, admin.key);
  const inProject = (key: string, id: string) => ({ headers: { ...bearer(key), "openai-project": id } });

  const file = await upload(server, undefined, { headers: bearer(theirs.key) });
  const seen = async (options: { headers: Record<string, string> }) => {
    const answer = await server.app.inject({ url: "/v1/files", ...options });
    expect(answer.headers["openai-project"]).toBe(options.headers["openai-project"] ?? DEFAULT_PROJECT);
    return answer.json<{ data: { id: string }[] }>().data.map(({ id }) => id);
  };
  expect(await seen(inProject(theirs.key, project.id))).toEqual([file.id]);
  expect(await seen({ headers: bearer(admin.key) })).toEqual([]);
  expect(await seen(inProject(admin.key, project.id))).toEqual([file.id]);

  const mismatched = {
    status: 401,
    type: "invalid_request_error",
    param: null,
    code: "mismatched_project",
    message:
      "OpenAI-Project header should match project for API key. Leave the header out, or use a key of that project.",
  };
  expect(await refusal(server, inProject(theirs.key, DEFAULT_PROJECT))).toEqual(mismatched);
  expect(await refusal(server, inProject(theirs.key, "proj_nobody"))).toEqual(mismatched);
  expect(await refusal(server, inProject(admin.key, "proj_nobody"))).toEqual({
    ...mismatched,
    code: "invalid_project",
    message: `No project has the id 'proj_nobody' of the header OpenAI-Project. Leave the header out to use the project ${DEFAULT_PROJECT}, or make the project with 'tunesmith projects create'.`,
  });
});

test("a project may keep the id that clients already send, once", async () => {
  const server = await testServer();
  const id = "proj_fromOpenAI123";
  expect((await createProject(server, { name: "Mine", id })).json()).toMatchObject({ id });
  const again = await createProject(server, { name: "Mine", id });
  expect(again.statusCode).toBe(409);
  expect(again.body).toContain(`There is already a project ${id}. Use it, or choose another id.`);
  expect((await createProject(server, { name: "Mine", id: "mine" })).json()).toMatchObject({
    error: {
      param: "id",
      message:
        "Invalid 'id': expected 'proj_' and 1 to 64 letters, digits, hyphens or underscores. Leave it out to get a new one.",
    },
  });
  const list = (await server.app.inject("/tunesmith/projects")).json<{ data: { id: string }[] }>();
  expect(list.data.map((project) => project.id)).toEqual([id, DEFAULT_PROJECT]);
  const next = await server.app.inject(`/tunesmith/projects?limit=1&after=${id}`);
  expect(next.json()).toMatchObject({ data: [{ id: DEFAULT_PROJECT }], has_more: false });
});

test("a key for an unknown project, with an unknown or no scope is refused", async () => {
  const server = await testServer();
  const ask = async (payload: object) =>
    (await server.app.inject({ method: "POST", url: "/tunesmith/keys", payload })).json<{ error: object }>()
      .error;
  expect(await ask({ scopes: ["admin"], project_id: "proj_x" })).toMatchObject({
    param: "project_id",
    message: "No project has the id 'proj_x'. GET /tunesmith/projects lists those there are.",
  });
  expect(await ask({ scopes: ["write"] })).toMatchObject({ param: "scopes[0]", code: "invalid_value" });
  expect(await ask({ scopes: [] })).toMatchObject({ param: "scopes", code: "empty_array" });
  expect(await ask({ scopes: ["admin"], requests_per_minute: 0 })).toMatchObject({
    param: "requests_per_minute",
    code: "integer_below_min_value",
  });
});

test("the official client raises its own classes", async () => {
  const server = await testServer();
  const admin = await createKey(server, { scopes: ["admin", "infer"] });
  const baseURL = `${await server.listen()}/v1`;
  const client = (apiKey: string, project?: string) =>
    new OpenAI({ baseURL, apiKey, maxRetries: 0, ...(project === undefined ? {} : { project }) });
  await expect(client(admin.key).models.list()).rejects.toBeInstanceOf(OpenAI.PermissionDeniedError);
  await expect(client("sk-wrong").models.list()).rejects.toBeInstanceOf(OpenAI.AuthenticationError);
  const reader = await createKey(server, { scopes: ["read"] }, admin.key);
  await expect(client(reader.key, "proj_x").models.list()).rejects.toBeInstanceOf(OpenAI.AuthenticationError);
  expect((await client(reader.key, DEFAULT_PROJECT).models.list()).data[0]?.id).toBeDefined();
  const messages = [{ role: "user" as const, content: "Hi" }];
  const completion = await client(admin.key).chat.completions.create({ model: BASE_MODEL, messages });
  expect(completion.choices).toHaveLength(1);
});

test("a key survives a restart, and lets the server listen to the network", async () => {
  const server = await testServer();
  const config = loadConfig({ port: 0, logLevel: "silent", homeDirectory: server.home }, {});
  const open = { ...config, host: "0.0.0.0" };
  const overrides = { engine: server.engine, createWorker: null };
  await server.stop();
  await expect(createServer(open, overrides)).rejects.toThrow(
    "Listening on 0.0.0.0 would let everyone on the network use this server, and there is no API key. Listen on 127.0.0.1 and make an admin key with 'tunesmith keys create --scopes admin', or set TUNESMITH_API_KEYS to one or more keys.",
  );
  const local = await createServer(config, overrides);
  const made = await local.app.inject({
    method: "POST",
    url: "/tunesmith/keys",
    payload: { scopes: ["admin", "read"] },
  });
  await local.stop();
  const exposed = await createServer(open, overrides);
  const { key } = made.json<NewKeyObject>();
  expect((await exposed.app.inject({ url: "/v1/files", headers: bearer(key) })).statusCode).toBe(200);
  expect((await exposed.app.inject("/v1/files")).statusCode).toBe(401);
  await exposed.stop();
});
