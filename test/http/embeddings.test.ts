// Embeddings over HTTP with a tiny random model: the official client's forms and encodings, OpenAI's names, every refusal.
import { join } from "node:path";
import OpenAI from "openai";
import { beforeEach, describe, expect, test } from "vitest";
import { BASE_MODEL, testServer } from "./harness.ts";
import type { TestServer } from "./harness.ts";

const MODEL = "all-minilm-l6-v2";
/** Width of the tiny model. */
const WIDTH = 24;
const TINY = join(import.meta.dirname, "../goldens/tiny-bert");

let server: TestServer;
beforeEach(async () => {
  server = await testServer(
    {},
    {
      embeddingCatalogue: {
        list: () => [{ id: MODEL, created: 1_700_000_000 }],
        isKnown: (id) => id === MODEL,
        resolve: async (id) => ({ id, path: TINY }),
      },
    },
  );
});

async function post(body: object): Promise<{ status: number; body: Record<string, unknown> }> {
  const answer = await server.app.inject({ method: "POST", url: "/v1/embeddings", payload: body });
  return { status: answer.statusCode, body: answer.json() };
}

interface Numbers {
  data: { embedding: number[] }[];
}

async function refused(body: object): Promise<{ status: number; error: Record<string, unknown> }> {
  const { status, body: answer } = await post(body);
  return { status, error: answer["error"] as Record<string, unknown> };
}

describe("the official client", () => {
  let client: OpenAI;
  beforeEach(async () => {
    client = new OpenAI({ baseURL: `${await server.listen()}/v1`, apiKey: "any", maxRetries: 0 });
  });

  test("decodes the base64 that it asks for by default to the very numbers of float", async () => {
    const input = ["the quick fox", "refund"];
    const packed = await client.embeddings.create({ model: MODEL, input });
    const plain = await client.embeddings.create({ model: MODEL, input, encoding_format: "float" });
    expect(packed).toMatchObject({ object: "list", model: MODEL, usage: plain.usage });
    expect(plain.usage.prompt_tokens).toBe(plain.usage.total_tokens);
    expect(packed.data.map(({ object, index }) => [object, index])).toEqual([
      ["embedding", 0],
      ["embedding", 1],
    ]);
    for (const [i, { embedding }] of plain.data.entries()) {
      expect(embedding).toHaveLength(WIDTH);
      expect([...(packed.data[i]?.embedding ?? [])]).toEqual(embedding);
      expect(Math.hypot(...embedding)).toBeCloseTo(1, 6);
    }
  });

  test("sends a text, texts, token ids and lists of them", async () => {
    const vectors = async (input: OpenAI.EmbeddingCreateParams["input"]) =>
      (await client.embeddings.create({ model: MODEL, input, encoding_format: "float" })).data.map(
        ({ embedding }) => embedding,
      );
    const [text] = await vectors("the quick fox");
    expect(await vectors(["the quick fox"])).toEqual([text]);
    expect(await vectors([5, 6, 8])).toEqual([text]);
    expect((await vectors([[5, 6, 8], [7]])).map((vector) => vector.length)).toEqual([WIDTH, WIDTH]);
  });

  test("shortens vectors, which are of length 1 again", async () => {
    const create = (dimensions: number) =>
      client.embeddings.create({
        model: MODEL,
        input: "fox",
        dimensions,
        encoding_format: "float",
        user: "u",
      });
    const [full, short] = [(await create(WIDTH)).data[0]?.embedding, (await create(6)).data[0]?.embedding];
    const scale = Math.hypot(...(full ?? []).slice(0, 6));
    expect(short).toHaveLength(6);
    for (const [i, value] of (short ?? []).entries())
      expect(value).toBeCloseTo((full?.[i] ?? NaN) / scale, 6);
  });

  test("finds the model under OpenAI's names, in the list and in answers", async () => {
    const listed = new Map<string, unknown>();
    for await (const one of client.models.list())
      listed.set(one.id, (one as { tunesmith?: unknown }).tunesmith);
    const [own] = (await client.embeddings.create({ model: MODEL, input: "fox" })).data;
    for (const name of ["text-embedding-3-small", "text-embedding-3-large", "text-embedding-ada-002"]) {
      expect(listed.get(name)).toEqual({ base_model: MODEL });
      expect((await client.models.retrieve(name)).id).toBe(name);
      const answer = await client.embeddings.create({ model: name, input: "fox" });
      expect(answer.model).toBe(name);
      expect(answer.data[0]?.embedding).toEqual(own?.embedding);
    }
    expect(listed.get(MODEL)).toEqual({ base_model: MODEL });
  });

  test("raises its own errors", async () => {
    await expect(client.embeddings.create({ model: "none", input: "a" })).rejects.toThrow(
      OpenAI.NotFoundError,
    );
    await expect(client.embeddings.create({ model: BASE_MODEL, input: "a" })).rejects.toThrow(
      OpenAI.PermissionDeniedError,
    );
    await expect(client.embeddings.create({ model: MODEL, input: "" })).rejects.toThrow(
      OpenAI.BadRequestError,
    );
    await expect(
      client.chat.completions.create({ model: MODEL, messages: [{ role: "user", content: "a" }] }),
    ).rejects.toThrow(OpenAI.NotFoundError);
    await expect(client.models.delete(MODEL)).rejects.toThrow(OpenAI.PermissionDeniedError);
  });
});

test("float is the encoding where none is named", async () => {
  const { body } = await post({ model: MODEL, input: "fox" });
  expect((body as unknown as Numbers).data[0]?.embedding).toHaveLength(WIDTH);
});

describe("refused by name are", () => {
  const INVALID = "Invalid type for";
  const FORMS = "a string, an array of strings, an array of token ids, or an array of arrays of token ids";
  test.each<[string, object, string, string | null, string | null]>([
    ["no input", {}, "Missing required parameter: 'input'.", "missing_required_parameter", "input"],
    ["null", { input: null }, `${INVALID} 'input': expected ${FORMS}.`, "invalid_type", "input"],
    ["an object", { input: { a: 1 } }, `${INVALID} 'input': expected ${FORMS}.`, "invalid_type", "input"],
    [
      "an empty text",
      { input: "" },
      "Invalid 'input': it is empty. Expected at least one character.",
      "string_below_min_length",
      "input",
    ],
    [
      "an empty text among others",
      { input: ["a", ""] },
      "Invalid 'input[1]': it is empty. Expected at least one character.",
      "string_below_min_length",
      "input",
    ],
    [
      "no texts",
      { input: [] },
      "Invalid 'input': empty array. Expected an array with minimum length 1, but got an empty array instead.",
      "empty_array",
      "input",
    ],
    [
      "no token ids",
      { input: [[5], []] },
      "Invalid 'input[1]': it is empty. Expected at least one token id.",
      "empty_array",
      "input",
    ],
    [
      "too many inputs",
      { input: Array(2049).fill("a") },
      "Invalid 'input': array too long. Expected an array with maximum length 2048, but got an array with length 2049 instead.",
      "array_above_max_length",
      "input",
    ],
    ...[[["a", 5]], [[5, "a"]], [[[5], "a"]], [[5, -1]], [[5, 1.5]], [[[5, null]]], [[true]]].map(
      ([input]): [string, object, string, string, string] => [
        `mixed or broken: ${JSON.stringify(input)}`,
        { input },
        "the same for all; token ids are whole numbers from 0.",
        "invalid_type",
        "input",
      ],
    ),
    [
      "a token id that is none",
      { input: [5, 999] },
      "Invalid 'input[0][1]': 999 is no token id",
      "invalid_value",
      "input",
    ],
    [
      "dimensions below 1",
      { input: "a", dimensions: 0 },
      "0 is less than the minimum of 1 - 'dimensions'",
      null,
      null,
    ],
    [
      "half a dimension",
      { input: "a", dimensions: 1.5 },
      "1.5 is not of type 'integer' - 'dimensions'",
      null,
      null,
    ],
    [
      "dimensions beyond the model's",
      { input: "a", dimensions: 1536 },
      `Invalid value for 'dimensions' = 1536. Must be less than or equal to ${WIDTH}, the width of ${MODEL}, which answers here.`,
      null,
      "dimensions",
    ],
    [
      "another encoding",
      { input: "a", encoding_format: "int8" },
      "Invalid value for 'encoding_format': 'int8'. Supported values are: 'float', 'base64'.",
      "invalid_value",
      "encoding_format",
    ],
    [
      "unknown members",
      { input: "a", top_k: 1 },
      "Unknown parameter: 'top_k'.",
      "unknown_parameter",
      "top_k",
    ],
    [
      "OpenAI's token ids",
      { model: "text-embedding-3-small", input: [[5, 6]] },
      `Invalid 'input': the token ids of 'text-embedding-3-small' are OpenAI's, and ${MODEL}, which answers here, has another vocabulary. Send texts, or name '${MODEL}' and send its own token ids.`,
      "invalid_value",
      "input",
    ],
  ])("%s", async (_, body, message, code, param) => {
    const { status, error } = await refused({ model: MODEL, ...body });
    expect(status).toBe(400);
    expect(error).toEqual({
      message: expect.stringContaining(message) as string,
      type: "invalid_request_error",
      code,
      param,
    });
  });

  test("more tokens than a request may have, with OpenAI's type", async () => {
    const { status, error } = await refused({ model: MODEL, input: Array(38).fill(Array(8000).fill(7)) });
    expect(status).toBe(400);
    expect(error).toMatchObject({
      type: "max_tokens_per_request",
      code: "max_tokens_per_request",
      param: null,
    });
  });

  test("models that are unknown, or for something else", async () => {
    expect(await refused({ model: "none", input: "a" })).toEqual({
      status: 404,
      error: {
        message: "The model 'none' does not exist or you do not have access to it.",
        type: "invalid_request_error",
        code: "model_not_found",
        param: null,
      },
    });
    expect(await refused({ model: "gpt-4o-mini", input: "a" })).toMatchObject({
      status: 403,
      error: {
        message: `You are not allowed to generate embeddings from this model: 'gpt-4o-mini' writes text. Take '${MODEL}'.`,
      },
    });
    const chat = await server.app.inject({
      method: "POST",
      url: "/v1/chat/completions",
      payload: { model: "text-embedding-3-small", messages: [{ role: "user", content: "a" }] },
    });
    expect(chat.statusCode).toBe(404);
    expect(chat.json()).toMatchObject({
      error: {
        message:
          "This is not a chat model: 'text-embedding-3-small' makes embeddings and writes no text. Send it to /v1/embeddings, or take another model; GET /v1/models lists them.",
        param: "model",
      },
    });
  });
});
