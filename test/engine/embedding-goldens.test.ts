// Token ids and embeddings against the Rust tokenizer and transformers (scripts/make-goldens.py): of a tiny random BERT model
// always, of all-MiniLM-L6-v2 where it is in the cache.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createWordPieceTokenizer } from "../../src/data/word-piece.ts";
import { tokenizerFromFolder } from "../../src/model/model-tokenizer.ts";
import { EncoderEngine } from "../../src/serving/embedding-engine.ts";
import { minilm } from "../minilm.ts";

const goldens = (name: string): URL => new URL(`../goldens/${name}`, import.meta.url);

interface Case {
  text: string;
  ids: number[];
  windows: number;
  vector: number[];
}

const MODELS = [
  { name: "tiny-bert", path: fileURLToPath(goldens("tiny-bert")), tolerance: 2e-6 },
  { name: "all-minilm-l6-v2", path: minilm?.path ?? null, tolerance: 2e-6 },
];

describe.each(MODELS)("$name", ({ name, path, tolerance }) => {
  const { cases } = JSON.parse(readFileSync(goldens(`${name}.json`), "utf8")) as { cases: Case[] };
  let engine: EncoderEngine;
  beforeAll(() => {
    engine = new EncoderEngine({ threads: 2 });
  });
  afterAll(() => engine.close());

  it.skipIf(path === null)("gives the same token ids", () => {
    const tokenizer = createWordPieceTokenizer(tokenizerFromFolder(path ?? ""));
    for (const { text, ids } of cases) expect(tokenizer.encode(text), text).toEqual(ids);
    expect(cases.some(({ windows }) => windows > 1)).toBe(true);
  });

  it.skipIf(path === null)("gives the same embeddings, all in one request", async () => {
    const { vectors, tokenCount } = await engine.embed({
      model: { id: name, path: path ?? "" },
      inputs: cases.map(({ text }) => text),
      dimensions: null,
      signal: new AbortController().signal,
    });
    expect(tokenCount).toBe(cases.reduce((sum, { ids }) => sum + ids.length, 0));
    for (const [i, { text, vector }] of cases.entries()) {
      expect(vectors[i]).toHaveLength(vector.length);
      const errors = vector.map((value, at) => Math.abs(value - (vectors[i]?.[at] ?? NaN)));
      expect(Math.max(...errors), text).toBeLessThan(tolerance);
    }
  });
});
