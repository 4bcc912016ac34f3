// Each family through a GGUF file and back, and from there into a Hugging Face folder: config and every tensor as they were.
import { copyFile, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { readGgufAdapter } from "../../src/export/gguf-adapter-reader.ts";
import { writeGgufAdapter, writeGgufModel } from "../../src/export/gguf-model.ts";
import { writeHuggingFaceModel } from "../../src/export/huggingface-folder.ts";
import { readAdapter } from "../../src/model/adapter.ts";
import { openBaseModel, type BaseModel } from "../../src/model/base-model.ts";
import { decodeHalf, encodeHalf } from "../../src/model/half-precision.ts";
import { tensorShapes } from "../../src/model/tensor-shapes.ts";
import { GOLDEN_FOLDER } from "../engine/goldens.ts";
import { randomAdapter, temporaryFolder } from "./tiny-export.ts";

function asHalf(values: Float32Array): Float32Array {
  const rounded = new Float32Array(values.length);
  decodeHalf(encodeHalf(values), rounded, 0);
  return rounded;
}

/** What a GGUF file can say of these two is what published models have. */
const CHANGES: Readonly<Record<string, object>> = {
  "tiny-llama3": {
    rope_scaling: {
      rope_type: "llama3",
      factor: 8,
      low_freq_factor: 1,
      high_freq_factor: 4,
      original_max_position_embeddings: 8192,
    },
    // With a larger base some frequencies are low enough to be scaled in full.
    rope_theta: 500_000,
  },
  "tiny-gemma3": {
    layer_types: ["sliding_attention", "sliding_attention", "sliding_attention"],
    rope_parameters: null,
    rope_scaling: { rope_type: "linear", factor: 2 },
    rope_local_base_freq: 10_000,
    query_pre_attn_scalar: 16,
  },
};

/** A golden model, changed so that GGUF can hold it. */
async function golden(name: string): Promise<string> {
  const source = join(GOLDEN_FOLDER, name);
  const folder = join(await temporaryFolder(), name);
  await mkdir(folder);
  await copyFile(join(source, "model.safetensors"), join(folder, "model.safetensors"));
  const config = JSON.parse(await readFile(join(source, "config.json"), "utf8")) as object;
  await writeFile(join(folder, "config.json"), JSON.stringify({ ...config, ...CHANGES[name] }));
  return folder;
}

/** Which ids end an answer is the tokenizer's to say in a GGUF file, and these have none. */
const shapeOf = ({ config: { eosTokenIds: _eos, bosTokenId: _bos, ...config } }: BaseModel) => config;

describe.each(["tiny-llama", "tiny-llama3", "tiny-qwen2", "tiny-qwen3", "tiny-gemma3"])("%s", (name) => {
  it("is the same model as GGUF, and as a folder made of that", async () => {
    const base = await openBaseModel(await golden(name));
    const folder = await temporaryFolder();
    const path = join(folder, "model.gguf");
    await writeGgufModel(path, base, { name, precision: "F16", vocabulary: new Map() });
    const gguf = await openBaseModel(path);
    const merged = join(folder, "merged");
    await mkdir(merged);
    await writeHuggingFaceModel(merged, gguf, gguf, { type: "F32", endTokenIds: [1] });
    const again = await openBaseModel(merged);
    expect(shapeOf(gguf)).toEqual(shapeOf(base));
    expect(shapeOf(again)).toEqual(shapeOf(base));
    for (const [tensor, shape] of tensorShapes(base.config)) {
      const own = base.tensor(tensor);
      const expected = shape.length === 1 ? own : asHalf(own);
      const found = gguf.tensor(tensor);
      // A norm is stored as 1 more than what it is, which takes bits from it.
      const tolerance = base.config.normsAroundOne && shape.length === 1 ? 1e-6 : 0;
      for (let i = 0; i < own.length; i++)
        if (Math.abs((found[i] as number) - (expected[i] as number)) > tolerance)
          throw new Error(`${tensor}: value ${i} is ${found[i]}, expected ${expected[i]}`);
      expect(again.tensor(tensor), tensor).toEqual(found);
    }
    for (const each of [base, gguf, again]) await each.close();
  });

  it("has its adapter back from a LoRA file", async () => {
    const path = join(GOLDEN_FOLDER, name);
    const base = await openBaseModel(path);
    await base.close();
    const { directory } = await randomAdapter(path, { rank: 3, alpha: 7 });
    const adapter = await readAdapter(directory, base.config);
    const file = join(await temporaryFolder(), "adapter.gguf");
    await writeGgufAdapter(file, adapter, base.config);
    const found = readGgufAdapter(file, base.config);
    expect([found.rank, found.alpha, found.targetModules]).toEqual([3, 7, adapter.targetModules]);
    expect(found.tensors).toEqual(adapter.tensors);
  });
});

it.each([
  ["tiny-llama3", /rope scaling is not that of a published Llama 3 model/],
  ["tiny-gemma3", /takes what a file does not say of Gemma 3's windows/],
])("%s as it is, which a GGUF file cannot say, is refused by name", async (name, message) => {
  const base = await openBaseModel(join(GOLDEN_FOLDER, name));
  const path = join(await temporaryFolder(), "model.gguf");
  const written = writeGgufModel(path, base, { name, precision: "F16", vocabulary: new Map() });
  await expect(written).rejects.toThrow(message);
  await base.close();
});
