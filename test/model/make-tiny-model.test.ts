import { mkdtemp, readFile, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { makeTinyModel } from "../../scripts/make-tiny-model.ts";
import { createTokenizer } from "../../src/data/tokenizer.ts";
import { openBaseModel, type BaseModel } from "../../src/model/base-model.ts";

let folder: string;
let model: BaseModel;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tiny-"));
  await makeTinyModel(join(folder, "a"));
  model = await openBaseModel(join(folder, "a"));
});
afterAll(async () => {
  await model.close();
  await rm(folder, { recursive: true });
});

test("the same bytes every time", async () => {
  await makeTinyModel(join(folder, "b"));
  const names = await readdir(join(folder, "a"));
  expect(names.sort()).toEqual([
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
  ]);
  for (const name of names) {
    const again = await readFile(join(folder, "b", name));
    expect(again.equals(await readFile(join(folder, "a", name))), name).toBe(true);
  }
});

test("a small tied Llama whose weights have the intended spread", () => {
  expect(model.config).toMatchObject({
    family: "llama",
    vocabSize: 355,
    layerCount: 2,
    tiedEmbeddings: true,
  });
  const values = model.tensor("model.embed_tokens.weight");
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length;
  expect(Math.abs(mean)).toBeLessThan(0.005);
  expect(variance * 64).toBeCloseTo(1, 1);
});

test("the tokenizer knows every byte, uses its merges and keeps special tokens whole", () => {
  const tokenizer = createTokenizer(model.tokenizer);
  fc.assert(
    fc.property(fc.string({ unit: "grapheme", minLength: 1 }), (text) => {
      expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
    }),
    { seed: 3 },
  );
  expect(tokenizer.encode("<|im_end|>")).toEqual([2]);
  expect(tokenizer.encode(" the product").length).toBeLessThan(8);
});
