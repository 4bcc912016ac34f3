// The bound against encoding itself: never more than the tokens there are, and near enough to refuse what is far too long.
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { expect, it } from "vitest";
import { makeTinyModel } from "../../scripts/make-tiny-model.ts";
import { createTokenizer } from "./tokenizer.ts";

const text = fc
  .array(
    fc.oneof(
      fc.string({ unit: "binary" }),
      fc.constantFrom("the order ", "<|im_end|>", "    ", "e\u0301", "가"),
    ),
  )
  .map((parts) => parts.join(""));

async function tinyTokenizer(normalizer: unknown) {
  const folder = await mkdtemp(join(tmpdir(), "token-bound-test-"));
  try {
    await makeTinyModel(folder);
    const read = async (name: string) =>
      JSON.parse(await readFile(join(folder, name), "utf8")) as Record<string, unknown>;
    return createTokenizer({
      tokenizerJson: { ...(await read("tokenizer.json")), normalizer },
      tokenizerConfig: await read("tokenizer_config.json"),
    });
  } finally {
    await rm(folder, { recursive: true });
  }
}

it.each([null, { type: "NFC" }])(
  "is never more than the tokens there are (normalizer %j)",
  async (normalizer) => {
    const tokenizer = await tinyTokenizer(normalizer);
    fc.assert(
      fc.property(text, (x) => {
        expect(tokenizer.leastTokens(x, Infinity)).toBeLessThanOrEqual(tokenizer.encodePlain(x).length);
      }),
      { numRuns: 1000, seed: 1 },
    );
    for (const x of [
      "e\u0301".repeat(20_000),
      "\u1100\u1161\u11a8".repeat(20_000),
      "the order ".repeat(5_000),
    ])
      expect(tokenizer.leastTokens(x, Infinity)).toBeLessThanOrEqual(tokenizer.encodePlain(x).length);
  },
);

it("counts a byte by the longest token that has it, and no further than is enough", async () => {
  const tokenizer = await tinyTokenizer(null);
  const length = (has: number) =>
    Math.max(
      ...Array.from({ length: tokenizer.vocabSize }, (_, id) => id)
        .filter((id) => !tokenizer.isSpecial(id) && tokenizer.tokenBytes(id).includes(has))
        .map((id) => tokenizer.tokenBytes(id).length),
    );
  const spaces = length(0x20);
  expect(tokenizer.leastTokens(" ".repeat(spaces * 1000 + 1), Infinity)).toBe(1000);
  const stopped = tokenizer.leastTokens(" ".repeat(10_000_000), 100);
  expect(stopped).toBeGreaterThan(100);
  expect(stopped).toBeLessThan(100 + 16_384);
  expect(tokenizer.leastTokens("", 0)).toBe(0);
});
