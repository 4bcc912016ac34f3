// The laws of the embedding engine, with a tiny random model: what stands beside an input does not change its vector, long
// inputs count whole, limits are kept.
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { InvalidRequest, Overloaded } from "../errors.ts";
import { createEmbedTexts, EncoderEngine, unitVector } from "./embedding-engine.ts";
import type { EmbeddingRequest } from "./embedding-engine.ts";

const model = { id: "tiny-bert", path: join(import.meta.dirname, "../../test/goldens/tiny-bert") };
const engine = new EncoderEngine({ threads: 1 });
afterAll(() => engine.close());

const embed = (inputs: EmbeddingRequest["inputs"], more: Partial<EmbeddingRequest> = {}) =>
  engine.embed({ model, inputs, dimensions: null, signal: new AbortController().signal, ...more });

const lengthOf = (vector: Float32Array): number => Math.hypot(...vector);

function expectClose(found: Float32Array | undefined, expected: Float32Array | undefined): void {
  expect(found).toHaveLength(expected?.length ?? NaN);
  const errors = [...(expected ?? [])].map((value, i) => Math.abs(value - (found?.[i] ?? NaN)));
  expect(Math.max(...errors)).toBeLessThan(2e-6);
}

/** Of all lengths, so that rows are sorted, padded and spread over passes. */
const TEXTS = Array.from(
  { length: 120 },
  (_, i) => "quick brown fox ".repeat(1 + ((i * 37) % 41)) + "a.".repeat(i % 5),
);

describe("vectors", () => {
  it("have length 1, come in the order of the inputs, and are the same alone and in company", async () => {
    const { vectors } = await embed(TEXTS);
    expect(vectors).toHaveLength(TEXTS.length);
    for (const i of [0, 1, 33, 40, 119]) {
      const alone = await embed([TEXTS[i] as string]);
      expectClose(vectors[i], alone.vectors[0]);
      expect(lengthOf(vectors[i] as Float32Array)).toBeCloseTo(1, 6);
    }
  });

  it("are the same for a text and for its token ids", async () => {
    const [byText, byIds] = await Promise.all([embed(["the quick fox"]), embed([[5, 6, 8]])]);
    expectClose(byIds.vectors[0], byText.vectors[0]);
    expect([byText.tokenCount, byIds.tokenCount]).toEqual([3, 3]);
  });

  it("of a long input depend on its end, and two halves of one window each are averaged", async () => {
    const long = Array.from({ length: 92 }, (_, i) => 5 + (i % 40));
    const { vectors } = await embed([long, [...long.slice(0, -1), 60], long.slice(0, 46), long.slice(46)]);
    const [whole, changed, left, right] = vectors as [Float32Array, Float32Array, Float32Array, Float32Array];
    expect(whole).not.toEqual(changed);
    expect(left).not.toEqual(right);
    // The mean over all tokens lies in the plane of the two halves' means.
    const dot = (a: Float32Array, b: Float32Array): number =>
      a.reduce((sum, x, i) => sum + x * (b[i] as number), 0);
    const [c, l, r] = [dot(left, right), dot(whole, left), dot(whole, right)];
    expect((l * l + r * r - 2 * c * l * r) / (1 - c * c)).toBeCloseTo(1, 4);
  });

  it("cut to some dimensions have length 1 again", async () => {
    const [full, short] = await Promise.all([embed(["fox"]), embed(["fox"], { dimensions: 5 })]);
    expectClose(short.vectors[0], unitVector((full.vectors[0] as Float32Array).subarray(0, 5)));
    expect((await embed(["fox"], { dimensions: 24 })).vectors[0]).toHaveLength(24);
    expect(unitVector(new Float32Array(3))).toEqual(new Float32Array(3));
  });
});

describe("refused are", () => {
  const refused = async (inputs: EmbeddingRequest["inputs"], more: Partial<EmbeddingRequest> = {}) => {
    const error: unknown = await embed(inputs, more).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(InvalidRequest);
    const { message, code, param } = error as InvalidRequest;
    return { message, code, param };
  };

  it("more dimensions than the model has", async () => {
    expect(await refused(["fox"], { dimensions: 25 })).toEqual({
      message:
        "Invalid value for 'dimensions' = 25. Must be less than or equal to 24, the width of tiny-bert, which answers here.",
      code: null,
      param: "dimensions",
    });
  });

  it("token ids that are none, or frame a text", async () => {
    expect(await refused([[5], [5, 116]])).toEqual({
      message:
        "Invalid 'input[1][1]': 116 is no token id: the model's vocabulary has 116. Token ids are those of the model that answers; send the text if yours are another tokenizer's.",
      code: "invalid_value",
      param: "input",
    });
    expect(await refused([[2, 5]])).toMatchObject({
      message:
        "Invalid 'input[0][0]': 2 is a special token, which the server adds itself. Send the text's tokens only.",
    });
  });

  it("inputs and requests with too many tokens", async () => {
    expect(await refused(["fox ".repeat(8193)])).toEqual({
      message:
        "Invalid 'input[0]': maximum context length is 8192 tokens, but it has at least 8193. Send the text in shorter pieces.",
      code: "context_length_exceeded",
      param: "input",
    });
    const ids = Array<number>(8000).fill(7);
    expect(await refused(Array<number[]>(38).fill(ids))).toEqual({
      message: "Requested at least 304000 tokens, max 300000 tokens per request. Send fewer inputs at once.",
      code: "max_tokens_per_request",
      param: null,
    });
  });

  it("more requests than are worked on at a time", async () => {
    const answers = await Promise.allSettled(Array.from({ length: 65 }, () => embed(["fox"])));
    const failed = answers.filter((answer) => answer.status === "rejected");
    expect(failed).toHaveLength(1);
    expect(failed[0]?.reason).toBeInstanceOf(Overloaded);
    expect((failed[0]?.reason as Error).message).toBe(
      "64 embedding requests are worked on already, which is the limit. Try again in a moment.",
    );
    await expect(embed(["fox"])).resolves.toMatchObject({ tokenCount: 1 });
  });
});

it("serves those who only have texts", async () => {
  const embedTexts = createEmbedTexts(engine, async () => model);
  const vectors = await embedTexts(["the fox", "the invoice"], new AbortController().signal);
  expect(vectors).toEqual((await embed(["the fox", "the invoice"])).vectors);
});

it("stops when the caller leaves", async () => {
  const leaving = new AbortController();
  const answer = embed(TEXTS, { signal: leaving.signal });
  leaving.abort();
  await expect(answer).rejects.toThrow("cancelled");
});

it("tries a model again that could not be loaded", async () => {
  const other = new EncoderEngine({ threads: 1 });
  const nowhere = { id: "none", path: join(model.path, "none") };
  await expect(embed(["fox"], {})).resolves.toBeDefined();
  for (let i = 0; i < 2; i++) {
    await expect(
      other.embed({ model: nowhere, inputs: ["a"], dimensions: null, signal: new AbortController().signal }),
    ).rejects.toThrow("does not exist");
  }
  await other.close();
});
