// The table of operations as an OpenAPI 3.1 document. Schemas that carry an id become components; what a key needs for an
// operation is told by the caller. Pure: equal arguments give an equal document.
import { z } from "zod";
import { errorEnvelope } from "./error.ts";
import { OPERATIONS } from "./operations.ts";
import { pathParameters, TAGS } from "./operations/operation.ts";
import type { Operation } from "./operations/operation.ts";

export type JsonSchema = Record<string, unknown>;

export interface OpenApiParameter {
  name: string;
  in: "path" | "query" | "header";
  required: boolean;
  description?: string;
  style?: "deepObject";
  explode?: boolean;
  schema: JsonSchema;
  example?: unknown;
}

export interface OpenApiOperation {
  operationId: string;
  tags: string[];
  summary: string;
  description: string;
  /** References lead to headers. */
  parameters?: (OpenApiParameter | { $ref: string })[];
  requestBody?: { required: true; content: Record<string, MediaObject> };
  responses: Record<string, { description: string; content?: Record<string, MediaObject> }>;
  security?: [];
}

interface MediaObject {
  schema: JsonSchema;
  example?: unknown;
  encoding?: Record<string, { style: "deepObject"; explode: true }>;
}

export interface OpenApiDocument {
  openapi: "3.1.0";
  info: {
    title: string;
    version: string;
    description: string;
    license: { name: string; identifier: string };
  };
  servers: { url: string }[];
  security: Record<string, []>[];
  tags: { name: string }[];
  paths: Record<string, Record<string, OpenApiOperation>>;
  components: {
    schemas: Record<string, JsonSchema>;
    parameters: Record<string, OpenApiParameter>;
    securitySchemes: Record<string, JsonSchema>;
  };
}

const COMPONENTS = "#/components/schemas/";

const header = (name: string, description: string, schema: JsonSchema): OpenApiParameter => ({
  name,
  in: "header",
  required: false,
  description,
  schema: { type: "string", ...schema },
});

/** What a request may carry beside its key, wherever it goes. */
const COMMON_HEADERS: Readonly<Record<string, OpenApiParameter>> = {
  OpenAIProject: header(
    "OpenAI-Project",
    "Must be the key's own project; a key with the scope `admin` may name any.",
    { minLength: 1 },
  ),
  OpenAIOrganization: header(
    "OpenAI-Organization",
    "Taken and compared with nothing: a server is one organization.",
    {},
  ),
  XClientRequestId: header(
    "X-Client-Request-Id",
    "A name for the request, which the server's log has beside its own.",
    { maxLength: 512, pattern: "^[\\x20-\\x7e]*$" },
  ),
};

/** Of requests that create or change something. */
const CREATION_HEADERS: Readonly<Record<string, OpenApiParameter>> = {
  IdempotencyKey: header(
    "Idempotency-Key",
    "The same request with the same key within 24 hours is carried out once and answered alike. Streams, and answers that are not stored, take no notice of it.",
    { minLength: 1, maxLength: 255, pattern: "^[\\x21-\\x7e]+$" },
  ),
};

const references = (headers: Readonly<Record<string, OpenApiParameter>>) =>
  Object.keys(headers).map((name) => ({ $ref: `#/components/parameters/${name}` }));

/** Where JSON schemas of zod have more than they need: the bounds of safe integers, which nobody meets. */
const SAFE_BOUNDS = { minimum: Number.MIN_SAFE_INTEGER, maximum: Number.MAX_SAFE_INTEGER };

export function openApiDocument(parts: {
  version: string;
  /** The scope that a key needs; null: any key. */
  scopeOf: (method: string, path: string) => string | null;
  /** Whether an operation minds the header Idempotency-Key. */
  mayCreate: (method: string, path: string) => boolean;
}): OpenApiDocument {
  const schemas = new Schemas();
  const paths: OpenApiDocument["paths"] = {};
  for (const operation of OPERATIONS) {
    const { method, path, open } = operation;
    const headers = [
      ...(open === "everybody" ? [] : references(COMMON_HEADERS)),
      ...(parts.mayCreate(method, path) ? references(CREATION_HEADERS) : []),
    ];
    const scope = parts.scopeOf(method, path);
    (paths[path] ??= {})[method.toLowerCase()] = describe(operation, { scope, headers }, schemas);
  }
  return {
    openapi: "3.1.0",
    info: {
      title: "tunesmith",
      version: parts.version,
      description:
        "OpenAI's protocol for files, fine-tuning, chat, embeddings and batches, on your own machine. No parameter is accepted and ignored: what is not implemented, and what is unknown, answers 400 with its name.",
      license: { name: "Apache 2.0", identifier: "Apache-2.0" },
    },
    servers: [{ url: "/" }],
    security: [{ bearer: [] }],
    tags: TAGS.map((name) => ({ name })),
    paths,
    components: {
      schemas: schemas.used(paths),
      parameters: { ...COMMON_HEADERS, ...CREATION_HEADERS },
      securitySchemes: {
        bearer: {
          type: "http",
          scheme: "bearer",
          description:
            "A key made with `tunesmith keys create`, or one of the server's settings. A server without keys answers only its own machine.",
        },
      },
    },
  };
}

function describe(
  operation: Operation,
  { scope, headers }: { scope: string | null; headers: readonly { $ref: string }[] },
  schemas: Schemas,
): OpenApiOperation {
  const { id, tag, summary, body, form, archive, example, open } = operation;
  const parameters = [
    ...pathParameters(operation.path).map(pathParameter),
    ...queryOf(operation, schemas),
    ...headers,
  ];
  const content =
    body !== undefined
      ? { "application/json": { schema: schemas.of(body), example } }
      : form !== undefined
        ? {
            "multipart/form-data": {
              schema: schemas.of(form),
              example,
              encoding: { expires_after: { style: "deepObject", explode: true } as const },
            },
          }
        : archive
          ? { "application/x-tar": { schema: { type: "string", format: "binary" } } }
          : null;
  return {
    operationId: id,
    tags: [tag],
    summary,
    description: [operation.description, access(scope, open)]
      .filter((text) => text !== undefined)
      .join("\n\n"),
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(content === null ? {} : { requestBody: { required: true, content } }),
    responses: responsesOf(operation, scope, schemas),
    ...(open === undefined ? {} : { security: [] }),
  };
}

function access(scope: string | null, open: Operation["open"]): string {
  if (open === "everybody") return "Needs no key.";
  if (open === "this machine")
    return "Needs a key, of any scope, unless it is asked from the server's own machine.";
  return scope === null ? "Needs a key of any scope." : `Needs a key with the scope \`${scope}\`.`;
}

const pathParameter = (name: string): OpenApiParameter => ({
  name,
  in: "path",
  required: true,
  schema: { type: "string", minLength: 1 },
});

function queryOf({ query, example = {} }: Operation, schemas: Schemas): OpenApiParameter[] {
  if (query === undefined) return [];
  const { properties = {}, required = [] } = schemas.inline(query) as {
    properties?: Record<string, JsonSchema>;
    required?: string[];
  };
  return Object.entries(properties).map(([name, { description, ...schema }]) => ({
    name,
    in: "query",
    required: required.includes(name),
    ...(typeof description === "string" ? { description } : {}),
    ...(name === "metadata" ? { style: "deepObject" as const, explode: true } : {}),
    schema,
    ...(name in example ? { example: example[name] } : {}),
  }));
}

/** Why each status is sent; the page docs/api.md says more. */
const STATUSES: Readonly<Record<number, string>> = {
  400: "The request is wrong, or names something that cannot be used.",
  401: "No key, a wrong one, or another project than the key's.",
  403: "A scope that the key lacks, or something that nobody may do.",
  404: "No such object.",
  409: "The object is in another state than this needs, or the same request is being carried out.",
  413: "The body is too large.",
  415: "Another content type than the operation's, or a compressed body.",
  429: "A limit of the key is used up, too many requests wait, or this one has waited too long.",
  500: "A fault of the server. The message holds the request's id.",
  503: "The server is stopping, or a download failed. Trying again helps.",
  507: "The disk is full.",
};

/** The statuses of errors that an operation may answer. */
export function errorStatuses(operation: Operation, scope: string | null): number[] {
  const { path, body, form, archive = false, errors = [], open } = operation;
  const takesBody = body !== undefined || form !== undefined || archive;
  const statuses = [
    ...(open === "everybody" ? [] : [401, 403, 429]),
    ...(scope === null ? [] : [403]),
    // At the least for a parameter that nobody knows.
    400,
    ...(takesBody ? [413, 415] : []),
    ...(pathParameters(path).length > 0 ? [404] : []),
    ...errors,
    500,
    503,
  ];
  return [...new Set(statuses)].sort((a, b) => a - b);
}

function responsesOf(
  operation: Operation,
  scope: string | null,
  schemas: Schemas,
): OpenApiOperation["responses"] {
  const { answer, events } = operation;
  const ok: Record<string, MediaObject> =
    typeof answer === "string"
      ? { [answer]: { schema: { type: "string" } } }
      : { "application/json": { schema: schemas.of(answer) } };
  if (events !== undefined) ok["text/event-stream"] = { schema: schemas.of(events) };
  const error = { "application/json": { schema: schemas.of(errorEnvelope) } };
  return Object.fromEntries<{ description: string; content: Record<string, MediaObject> }>([
    ["200", { description: "Done.", content: ok }],
    ...errorStatuses(operation, scope).map(
      (status) => [String(status), { description: STATUSES[status] ?? "Refused.", content: error }] as const,
    ),
  ]);
}

/** JSON schemas of zod's: those with an id as components, each once. */
class Schemas {
  readonly #components: Record<string, JsonSchema>;

  constructor() {
    const { schemas } = z.toJSONSchema(z.globalRegistry, OPTIONS);
    this.#components = Object.fromEntries(
      Object.entries(schemas).map(([id, schema]) => [id, cleaned(schema) as JsonSchema]),
    );
  }

  /** A reference where the schema has an id, or the schema itself. */
  of(schema: z.ZodType): JsonSchema {
    const id = z.globalRegistry.get(schema)?.id;
    return id === undefined ? this.inline(schema) : { $ref: COMPONENTS + id };
  }

  inline(schema: z.ZodType): JsonSchema {
    return cleaned(z.toJSONSchema(schema, OPTIONS)) as JsonSchema;
  }

  /** The components that paths refer to, and those that these refer to. */
  used(paths: object): Record<string, JsonSchema> {
    const names = new Set<string>();
    const visit = (value: unknown): void => {
      for (const [, name = ""] of JSON.stringify(value).matchAll(/"#\/components\/schemas\/(\w+)"/g)) {
        if (names.has(name)) continue;
        names.add(name);
        visit(this.#components[name]);
      }
    };
    visit(paths);
    return Object.fromEntries([...names].sort().map((name) => [name, this.#components[name] ?? {}]));
  }
}

/** "input": requests as they are sent, before defaults and canonical forms; answers do not forbid members that come later. */
const OPTIONS: z.core.ToJSONSchemaParams & { uri: (id: string) => string } = {
  io: "input",
  uri: (id) => COMPONENTS + id,
  // zod leaves defaults out where a schema transforms, since they are of the result; ours are the same in both.
  override: ({ zodSchema, jsonSchema }) => {
    const { default: value } = z.globalRegistry.get(zodSchema) ?? {};
    if (value !== undefined) jsonSchema.default = value;
  },
};

/** Without what says nothing inside a document. */
function cleaned(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(cleaned);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).filter(([key, member]) => {
    if (key === "$schema" || key === "$id" || (key === "id" && typeof member === "string")) return false;
    return !((key === "minimum" || key === "maximum") && SAFE_BOUNDS[key] === member);
  });
  return Object.fromEntries(entries.map(([key, member]) => [key, cleaned(member)]));
}
