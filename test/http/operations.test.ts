// The table of operations against the running server and its own promises: every route has its operation, every example is
// accepted, and every range that the server keeps is in the document.
import { Validator } from "@seriousme/openapi-schema-validator";
import { describe, expect, it } from "vitest";
import { mayCreate } from "../../src/api/idempotency.ts";
import { scopeOf } from "../../src/api/scopes.ts";
import { openApiDocument } from "../../src/wire/openapi.ts";
import { OPERATIONS } from "../../src/wire/operations.ts";
import { testServer } from "./harness.ts";

const document = openApiDocument({ version: "1.2.3", scopeOf, mayCreate });
const schemas = document.components.schemas;
const property = (schema: string, name: string) =>
  (schemas[schema]?.["properties"] as Record<string, unknown> | undefined)?.[name];

/** `GET /v1/files/{}`: names of parameters are the table's own. */
const nameless = (method: string, path: string) => `${method} ${path.replaceAll(/:\w+|\{\w+\}/g, "{}")}`;

describe("the table of operations", () => {
  it("has each route of the server once, and no other", async () => {
    const { app } = await testServer();
    const routes = app.routesWithHandlers.map(({ method, url }) => nameless(method, url));
    expect(routes.length).toBeGreaterThan(30);
    expect(OPERATIONS.map(({ method, path }) => nameless(method, path)).sort()).toEqual(routes.sort());
  });

  it("takes no parameter in an address that it does not name", async () => {
    const { app } = await testServer();
    const taken: string[] = [];
    // Lists of an object's parts look for the object first.
    for (const { method, path, query } of OPERATIONS) {
      if (query !== undefined && path.includes("{")) continue;
      const url = `${path.replaceAll(/\{\w+\}/g, "x")}?flavour=1`;
      const answer = await app.inject({ method, url, ...(method === "POST" ? { payload: {} } : {}) });
      const { error } = answer.json<{ error?: { param: unknown; code: unknown } }>();
      if (answer.statusCode !== 400 || error?.param !== "flavour" || error.code !== "unknown_parameter") {
        taken.push(`${method} ${url}: ${answer.body.slice(0, 200)}`);
      }
    }
    expect(taken).toEqual([]);
  });

  it("names every operation once", () => {
    const ids = OPERATIONS.map(({ id }) => id);
    expect(new Set(ids).size).toBe(ids.length);
  });

  it.each(OPERATIONS.filter(({ body, form, query, example }) => (body ?? form ?? query) && example))(
    "the example of $id is accepted",
    ({ body, form, query, example }) => {
      expect((body ?? form ?? query)?.safeParse(example).error).toBeUndefined();
    },
  );

  it("has an example for every body", () => {
    const bare = OPERATIONS.filter(({ body, form, example }) => (body ?? form) && example === undefined);
    expect(bare.map(({ id }) => id)).toEqual([]);
  });
});

describe("the OpenAPI document", () => {
  it("is valid", async () => {
    const result = await new Validator().validate(
      JSON.parse(JSON.stringify(document)) as Record<string, unknown>,
    );
    expect(result.errors).toBeUndefined();
    expect(result.valid).toBe(true);
  });

  it("refers to nothing that is not there, and holds nothing that nobody refers to", () => {
    const names = [...JSON.stringify(document).matchAll(/"#\/components\/schemas\/(\w+)"/g)].map(
      ([, name]) => name,
    );
    expect([...new Set(names)].sort()).toEqual(Object.keys(schemas).sort());
  });

  it.each<[string, string, object]>([
    ["CreateChatCompletionRequest", "temperature", { type: "number", minimum: 0, maximum: 2 }],
    ["CreateChatCompletionRequest", "n", { type: "integer", minimum: 1, maximum: 128 }],
    ["HyperparametersRequest", "n_epochs", { type: "integer", minimum: 1, maximum: 50 }],
    ["HyperparametersRequest", "learning_rate_multiplier", { type: "number", exclusiveMinimum: 0 }],
    ["CreateKeyRequest", "requests_per_minute", { type: "integer", minimum: 1, maximum: 1_000_000_000 }],
  ])("states the range of %s.%s", (schema, name, range) => {
    const { anyOf } = property(schema, name) as { anyOf: unknown[] };
    expect(anyOf).toContainEqual(range);
  });

  it("states the letters that names may have, and the keys of a map", () => {
    const pattern = "^[A-Za-z0-9_-]*$";
    expect(schemas["ChatTool"]).toMatchObject({
      properties: { function: { properties: { name: { pattern, minLength: 1, maxLength: 64 } } } },
    });
    const formats = JSON.stringify(schemas["ResponseFormat"]);
    expect(formats).toContain(JSON.stringify({ type: "string", minLength: 1, maxLength: 64, pattern }));
    for (const request of ["CreateChatCompletionRequest", "CreateCompletionRequest"]) {
      expect(property(request, "logit_bias")).toMatchObject({
        anyOf: [{ propertyNames: { pattern: "^(0|[1-9]\\d{0,8})$" } }, { type: "null" }],
      });
    }
    const { lora } = schemas["HyperparametersRequest"]?.["properties"] as { lora: object };
    expect(lora).toMatchObject({ properties: { target_modules: { minItems: 1, uniqueItems: true } } });
    expect(property("CreateUploadRequest", "filename")).toMatchObject({ pattern: "^[^\\u0000]*$" });
  });

  it("leaves open what a job's method holds for the methods that it does not name", () => {
    const { anyOf } = property("CreateFineTuningJobRequest", "method") as { anyOf: object[] };
    const { oneOf } = anyOf[0] as { oneOf: { properties: Record<string, object> }[] };
    const open = oneOf.map(({ properties }) =>
      Object.keys(properties).filter((name) => JSON.stringify(properties[name]) === "{}"),
    );
    expect(open).toEqual([
      ["dpo", "reinforcement"],
      ["supervised", "reinforcement"],
      ["supervised", "dpo", "reinforcement"],
    ]);
  });

  it("states pages, defaults and the pairs of metadata", () => {
    const parameters = document.paths["/v1/fine_tuning/jobs"]?.["get"]?.parameters;
    expect(parameters).toContainEqual(
      expect.objectContaining({
        name: "limit",
        in: "query",
        schema: { type: "integer", minimum: 1, maximum: 1000, default: 20 },
      }),
    );
    expect(property("CreateFineTuningJobRequest", "metadata")).toMatchObject({
      anyOf: [{ maxProperties: 16, propertyNames: { maxLength: 64 } }, { type: "null" }],
    });
  });

  it("names the headers that an operation minds", () => {
    const headersOf = (path: string, method: string) =>
      (document.paths[path]?.[method]?.parameters ?? []).flatMap((each) =>
        "$ref" in each ? [document.components.parameters[each.$ref.split("/").at(-1) ?? ""]?.name] : [],
      );
    const common = ["OpenAI-Project", "OpenAI-Organization", "X-Client-Request-Id"];
    expect(headersOf("/v1/files", "get")).toEqual(common);
    expect(headersOf("/v1/fine_tuning/jobs", "post")).toEqual([...common, "Idempotency-Key"]);
    expect(headersOf("/v1/responses", "post")).toContain("Idempotency-Key");
    expect(headersOf("/v1/embeddings", "post")).toEqual(common);
    expect(headersOf("/healthz", "get")).toEqual([]);
  });

  it("says which values of a parameter that is not implemented are taken", () => {
    expect(property("CreateChatCompletionRequest", "audio")).toMatchObject({ enum: [null] });
  });

  it("says what a key needs", () => {
    expect(document.paths["/v1/files"]?.["post"]?.description).toContain("the scope `train`");
    expect(document.paths["/v1/chat/completions"]?.["post"]?.description).toContain("the scope `infer`");
    expect(document.paths["/healthz"]?.["get"]?.security).toEqual([]);
  });
});
