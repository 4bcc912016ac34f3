// One project never sees another's objects: every route that names an object answers for a foreign one exactly as for one that
// does not exist, and every list leaves them out. The cases come from the route table, so a new route is tested or fails here.
import { expect, test } from "vitest";
import { scopeOf } from "../../src/api/scopes.ts";
import { DEFAULT_PROJECT, newId } from "../../src/wire/ids.ts";
import { readProjectFile } from "../house/source-files.ts";
import { BASE_MODEL, messages, succeedJob, testServer, upload } from "./harness.ts";
import type { TestServer } from "./harness.ts";

const OTHER = "proj_other";

/** A server with two projects. Without keys its caller is an admin, who may name either in the header OpenAI-Project. */
async function serverWithProjects(): Promise<TestServer> {
  const server = await testServer();
  await server.stores.projects.create({ id: OTHER, name: "Other" });
  return server;
}

interface Objects {
  file: string;
  job: string;
  model: string;
  batch: string;
  upload: string;
  completion: string;
  response: string;
  alias: string;
}

/** One object of each kind that a path can name. */
async function makeObjects(server: TestServer, project?: string): Promise<Objects> {
  const headers = project === undefined ? {} : { "openai-project": project };
  const file = await upload(server, undefined, { headers });
  const created = await server.app.inject({
    method: "POST",
    url: "/v1/fine_tuning/jobs",
    payload: { model: BASE_MODEL, training_file: file.id, suffix: project?.slice(-8) },
    headers,
  });
  const job = created.json<{ id: string }>().id;
  const { model } = await succeedJob(server, job);
  const batch = await server.stores.batches.create({
    projectId: project ?? DEFAULT_PROJECT,
    endpoint: "/v1/chat/completions",
    inputFileId: file.id,
    keyId: null,
    outputTtlSeconds: 3600,
    metadata: null,
  });
  const begun = await server.app.inject({
    method: "POST",
    url: "/v1/uploads",
    payload: { filename: "a.jsonl", purpose: "fine-tune", bytes: 4, mime_type: "text/jsonl" },
    headers,
  });
  const stored = await server.app.inject({
    method: "POST",
    url: "/v1/chat/completions",
    payload: { model: BASE_MODEL, messages, store: true },
    headers,
  });
  const answer = await server.app.inject({
    method: "POST",
    url: "/v1/responses",
    payload: { model: BASE_MODEL, input: "Hi" },
    headers,
  });
  const alias = `triage-${project ?? "own"}`;
  await server.app.inject({
    method: "POST",
    url: `/tunesmith/aliases/${alias}`,
    payload: { model: BASE_MODEL },
    headers,
  });
  return {
    alias,
    file: file.id,
    job,
    model,
    batch: batch.id,
    upload: begun.json<{ id: string }>().id,
    completion: stored.json<{ id: string }>().id,
    response: answer.json<{ id: string }>().id,
  };
}

/** Ids of the right form that nobody has. */
const UNKNOWN: Objects = {
  file: newId("file"),
  job: newId("job"),
  model: `ft:${BASE_MODEL}:personal::nobodyAA`,
  batch: newId("batch"),
  upload: newId("upload"),
  completion: newId("chatCompletion"),
  response: newId("response"),
  alias: "nobody",
};

/** "GET /v1/files/:file" and so on, from the route table of app.ts. */
const ROUTES = [
  ...readProjectFile("src/api/app.ts").matchAll(/^ {4}"(\/(?:v1|tunesmith)\/[^"]+)": \{(.*)\}/gm),
].flatMap(([, url = "", methods = ""]) =>
  [...methods.matchAll(/\b(GET|POST|DELETE):/g)].map(([, method]) => `${method} ${url}`),
);
/** It makes what it names: each project has aliases of its own. */
const MAKING = "POST /tunesmith/aliases/:alias";
/** Those that name an object. Admin routes reach over all projects. */
const NAMING = ROUTES.filter((route) => {
  const [method = "", url = ""] = route.split(" ");
  return url.includes(":") && scopeOf(method, url) !== "admin" && route !== MAKING;
});

/** Bodies without which a route refuses the request before it looks for the object. */
const BODIES: Readonly<Record<string, object>> = {
  "POST /v1/uploads/:upload/complete": { part_ids: ["part_x"] },
  "POST /v1/chat/completions/:completion": { metadata: {} },
  "POST /tunesmith/models/:model/rebase": { base: BASE_MODEL },
  "POST /tunesmith/aliases/:alias/candidate": { model: BASE_MODEL, mode: "canary", percent: 10 },
};

/** Queries without which it does. */
const QUERIES: Readonly<Record<string, Record<string, string>>> = {
  "GET /tunesmith/models/:model/export": { format: "peft" },
};

function send(server: TestServer, route: string, objects: Objects, project?: string) {
  const [method = "", path = ""] = route.split(" ");
  const url = path.replaceAll(/:(\w+)/g, (_all, name: string) => {
    const id = (objects as unknown as Record<string, string>)[name];
    if (id === undefined) throw new Error(`makeObjects has no '${name}' for ${route}: add one`);
    return id;
  });
  return server.app.inject({
    method: method as "GET" | "POST" | "DELETE",
    url,
    headers: project === undefined ? {} : { "openai-project": project },
    ...(QUERIES[route] === undefined ? {} : { query: QUERIES[route] }),
    ...(BODIES[route] === undefined ? {} : { payload: BODIES[route] }),
  });
}

test("the route table was read", () => {
  expect(NAMING.length).toBeGreaterThanOrEqual(9);
});

test.each(NAMING)("%s answers for another project's object as for an unknown one", async (route) => {
  const server = await serverWithProjects();
  const objects = await makeObjects(server);
  const foreign = await send(server, route, objects, OTHER);
  const unknown = await send(server, route, UNKNOWN, OTHER);
  expect(foreign.statusCode).toBe(404);
  const renamed = Object.entries(objects).reduce(
    (body, [kind, id]) => body.replaceAll(String(id), UNKNOWN[kind as keyof Objects]),
    foreign.body,
  );
  expect([foreign.statusCode, renamed]).toEqual([unknown.statusCode, unknown.body]);
  // The object is still there for its own project: the foreign request deleted or changed nothing.
  expect((await send(server, route, objects)).statusCode).not.toBe(404);
});

test.each([
  ["/v1/files", "file"],
  ["/v1/fine_tuning/jobs", "job"],
  ["/v1/models", "model"],
  ["/v1/batches", "batch"],
  ["/v1/chat/completions", "completion"],
  ["/tunesmith/aliases", "alias"],
] as const)("%s lists the own project's objects only", async (url, kind) => {
  const server = await serverWithProjects();
  const { [kind]: id } = await makeObjects(server);
  expect((await server.app.inject({ url })).body).toContain(`"${id}"`);
  const foreign = await server.app.inject({ url, headers: { "openai-project": OTHER } });
  expect(foreign.statusCode).toBe(200);
  expect(foreign.body).not.toContain(`"${id}"`);
  if (kind === "model") return expect(foreign.body).toContain(`"${BASE_MODEL}"`);
  // A list without pages.
  if (kind === "alias") return;
  const after = (cursor: string) =>
    server.app.inject({ url, query: { after: cursor }, headers: { "openai-project": OTHER } });
  const answer = await after(id);
  expect(answer.statusCode).toBe(400);
  expect(answer.body.replaceAll(id, UNKNOWN[kind])).toBe((await after(UNKNOWN[kind])).body);
});

test.each([
  [
    "a training file",
    "file",
    "/v1/fine_tuning/jobs",
    (id: string) => ({ model: BASE_MODEL, training_file: id }),
  ],
  [
    "a model to chat with",
    "model",
    "/v1/chat/completions",
    (id: string) => ({ model: id, messages: [{ role: "user", content: "Hi" }] }),
  ],
  [
    "a response to go on from",
    "response",
    "/v1/responses",
    (id: string) => ({ model: BASE_MODEL, input: "And?", previous_response_id: id }),
  ],
  [
    "a judge",
    "model",
    "/v1/fine_tuning/alpha/graders/validate",
    (id: string) => ({
      grader: { type: "score_model", name: "j", model: id, input: [{ role: "user", content: "Hi" }] },
    }),
  ],
] as const)("%s of another project is unknown in a body too", async (_name, kind, url, payload) => {
  const server = await serverWithProjects();
  const { [kind]: id } = await makeObjects(server);
  const post = (project: string | undefined, named: string) =>
    server.app.inject({
      method: "POST",
      url,
      payload: payload(named),
      headers: project === undefined ? {} : { "openai-project": project },
    });
  const foreign = await post(OTHER, id);
  const unknown = await post(OTHER, UNKNOWN[kind]);
  expect(foreign.statusCode).toBeGreaterThanOrEqual(400);
  expect([foreign.statusCode, foreign.body.replaceAll(id, UNKNOWN[kind])]).toEqual([
    unknown.statusCode,
    unknown.body,
  ]);
  expect((await post(undefined, id)).statusCode).toBe(200);
});

test("what a project makes is its own", async () => {
  const server = await serverWithProjects();
  const objects = await makeObjects(server);
  const theirs = await makeObjects(server, OTHER);
  for (const [url, kind] of [
    ["/v1/files", "file"],
    ["/v1/fine_tuning/jobs", "job"],
    ["/v1/models", "model"],
  ] as const) {
    const { body } = await server.app.inject({ url, headers: { "openai-project": OTHER } });
    expect(body).toContain(`"${theirs[kind]}"`);
    expect(body).not.toContain(`"${objects[kind]}"`);
  }
});
