// Whatever is sent, the answer is a 2xx of the operation's shape or a 4xx in the envelope, and it comes: bodies, queries and path
// parameters of every operation, mutated at random from valid ones. Seeds are fixed, so a failure here fails again.
import fc from "fast-check";
import { expect, test } from "vitest";
import { errorEnvelope } from "../../src/wire/error.ts";
import { UnsupportedModel } from "../../src/errors.ts";
import { OPERATIONS } from "../../src/wire/operations.ts";
import type { Operation } from "../../src/wire/operations/operation.ts";
import { fuzzCases } from "./fuzz-cases.ts";
import type { FuzzCase } from "./fuzz-cases.ts";
import { testServer } from "./harness.ts";
import type { TestServer } from "./harness.ts";
import { mutatedBody, mutatedQuery, oddAddressPart } from "./mutations.ts";

const SEED = 20_251_124;
/** Requests of each case; all together stay well below a minute on two cores. */
const RUNS = { body: 120, query: 40, path: 15 };
/** An answer takes milliseconds; one that takes this long does not come. */
const PATIENCE_MS = 10_000;
/** Thousands of bodies take a minute on two busy cores. */
const BODIES_MS = 300_000;

const headers = { authorization: "Bearer test-key-of-the-settings" };

const embeddingEngine = {
  embed: async ({ inputs }: { inputs: readonly unknown[] }) => ({
    vectors: inputs.map(() => new Float32Array([0.6, 0.8])),
    tokenCount: inputs.length,
  }),
  close: async () => undefined,
};
const embeddingCatalogue = {
  list: () => [{ id: "all-minilm-l6-v2", created: 1_700_000_000 }],
  isKnown: (id: string) => id === "all-minilm-l6-v2",
  resolve: async (id: string) => ({ id, path: `/models/${id}` }),
};

/** There is no model on disk that could be exported. */
const runExport = () => Promise.reject(new UnsupportedModel("The model is not here."));

const fuzzServer = () =>
  testServer({ apiKeys: ["test-key-of-the-settings"] }, { embeddingEngine, embeddingCatalogue, runExport });

const operationOf = (id: string): Operation => {
  const operation = OPERATIONS.find((each) => each.id === id);
  if (operation === undefined) throw new Error(`no operation ${id}`);
  return operation;
};

async function answered(
  server: TestServer,
  request: { method: string; url: string; payload?: Buffer; type?: string },
): Promise<void> {
  const { method, url, payload, type = "application/json" } = request;
  let timer: NodeJS.Timeout | undefined;
  const answer = await Promise.race([
    server.app.inject({
      method: method as "POST",
      url,
      headers: { ...headers, ...(payload === undefined ? {} : { "content-type": type }) },
      ...(payload === undefined ? {} : { payload }),
    }),
    new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => reject(new Error(`no answer within ${PATIENCE_MS} ms`)), PATIENCE_MS);
    }),
  ]).finally(() => clearTimeout(timer));
  if (answer.statusCode < 300) return;
  expect(answer.statusCode, answer.body.slice(0, 500)).toBeGreaterThanOrEqual(400);
  expect(answer.statusCode, answer.body.slice(0, 500)).toBeLessThan(500);
  expect(errorEnvelope.safeParse(answer.json()).error).toBeUndefined();
  expect(Object.keys(answer.json<{ error: object }>().error).sort()).toEqual([
    "code",
    "message",
    "param",
    "type",
  ]);
}

/** Runs a property for each case; a failure names the operation. */
async function forEachCase(
  cases: readonly FuzzCase[],
  numRuns: number,
  property: (operation: Operation, each: FuzzCase) => fc.IAsyncProperty<[unknown]>,
): Promise<void> {
  expect(cases.length).toBeGreaterThan(0);
  for (const each of cases) {
    const operation = operationOf(each.id);
    try {
      await fc.assert(property(operation, each), { seed: SEED, numRuns });
    } catch (error) {
      throw new Error(`${operation.method} ${operation.path}: ${String(error).slice(0, 3000)}`, {
        cause: error,
      });
    }
  }
}

test("every operation with a body or a query has a case, and the unchanged bodies are taken", async () => {
  const server = await fuzzServer();
  const cases = await fuzzCases(server, headers);
  const expected = OPERATIONS.filter(({ body, query }) => body ?? query).map(({ id }) => id);
  expect([...new Set(cases.map(({ id }) => id))].sort()).toEqual(expected.sort());
  for (const { id, path, body } of cases.filter((each) => each.body !== undefined)) {
    const url = path ?? operationOf(id).path;
    const answer = await server.app.inject({ method: "POST", url, payload: body as object, headers });
    // Token ids belong to another vocabulary under OpenAI's names; the form is right.
    const isForeign = answer.body.includes("another vocabulary");
    expect(isForeign || answer.statusCode === 200, `${id}: ${answer.body}`).toBe(true);
  }
});

test(
  "bodies",
  async () => {
    const server = await fuzzServer();
    const cases = (await fuzzCases(server, headers)).filter(({ body }) => body !== undefined);
    await forEachCase(cases, RUNS.body, ({ method, path }, each) =>
      fc.asyncProperty(mutatedBody(each.body), (payload) =>
        answered(server, { method, url: each.path ?? path, payload }),
      ),
    );
  },
  BODIES_MS,
);

test("content types", async () => {
  const server = await fuzzServer();
  const cases = (await fuzzCases(server, headers)).filter(({ body }) => body !== undefined);
  const types = [
    "text/plain",
    "application/xml",
    "multipart/form-data",
    "multipart/form-data; boundary=x",
    "x",
    "/",
  ]
    .concat([
      "application/json; charset=utf-16",
      "application/json;;",
      "application/x-www-form-urlencoded",
      ";",
    ])
    .concat(["application/vnd.api+json", "APPLICATION/JSON", "text/html, application/json"]);
  await forEachCase(cases, types.length, ({ method, path }, each) =>
    fc.asyncProperty(fc.constantFrom(...types), (type) =>
      answered(server, {
        method,
        url: each.path ?? path,
        payload: Buffer.from(JSON.stringify(each.body)),
        type,
      }),
    ),
  );
});

test("queries", async () => {
  const server = await fuzzServer();
  const cases = (await fuzzCases(server, headers)).filter(({ query }) => query !== undefined);
  await forEachCase(cases, RUNS.query, ({ method, path }, each) =>
    fc.asyncProperty(mutatedQuery(each.query ?? {}), (query) =>
      answered(server, { method, url: `${each.path ?? path}?${query}` }),
    ),
  );
});

test("path parameters", async () => {
  const server = await fuzzServer();
  const cases = OPERATIONS.filter(({ path }) => path.includes("{")).map(({ id }) => ({ id }));
  await forEachCase(cases, RUNS.path, ({ method, path }) =>
    fc.asyncProperty(fc.infiniteStream(oddAddressPart), (parts) =>
      answered(server, { method, url: path.replaceAll(/\{\w+\}/g, () => String(parts.next().value)) }),
    ),
  );
});

test("what is stored comes back as it was sent, or is refused", async () => {
  const server = await fuzzServer();
  const text = fc.string({ unit: "binary", minLength: 1, maxLength: 64 });
  const odd = fc.constantFrom("a\u0000b", "\ud800", "x\udc00y", "\u{1f600}", "\ufeffa", "\r\n", "'");
  await fc.assert(
    fc.asyncProperty(fc.oneof(text, odd), async (name) => {
      const payload = { name };
      const answer = await server.app.inject({
        method: "POST",
        url: "/tunesmith/projects",
        payload,
        headers,
      });
      if (answer.statusCode === 400) {
        expect(answer.json()).toMatchObject({ error: { param: "name" } });
        return;
      }
      const list = await server.app.inject({ url: "/tunesmith/projects?limit=1000", headers });
      const { id } = answer.json<{ id: string }>();
      const stored = list
        .json<{ data: { id: string; name: string }[] }>()
        .data.find((each) => each.id === id);
      expect(stored?.name).toBe(name);
    }),
    { seed: SEED, numRuns: 60 },
  );
});

test.each([
  ["/tunesmith/keys", "name", { name: "a\u0000b" }],
  ["/tunesmith/webhooks", "url", { url: "https://example.com/\u0000b" }],
  ["/v1/fine_tuning/jobs", "suffix", { model: "gpt-4o-mini", training_file: "file-x", suffix: "\ud800" }],
])("%s refuses a %s that cannot be kept", async (url, param, payload) => {
  const server = await fuzzServer();
  const answer = await server.app.inject({ method: "POST", url, payload, headers });
  expect(answer.json()).toMatchObject({ error: { param, code: "invalid_value" } });
});

test("a body that nests too deep is refused, however harmless its members", async () => {
  const server = await fuzzServer();
  const deep = (levels: number) => `{"grader":${"[".repeat(levels)}${"]".repeat(levels)}}`;
  for (const [levels, message] of [
    [511, "Invalid type for 'grader'"],
    [512, "nests deeper than 512 levels"],
    [100_000, "nests deeper than 512 levels"],
  ] as const) {
    const answer = await server.app.inject({
      method: "POST",
      url: "/v1/fine_tuning/alpha/graders/validate",
      payload: deep(levels),
      headers: { ...headers, "content-type": "application/json" },
    });
    expect(answer.statusCode).toBe(400);
    expect(answer.json<{ error: { message: string } }>().error.message).toContain(message);
  }
});
