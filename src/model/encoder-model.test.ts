// What an encoder's folder must hold: every refusal names the field, tensor or file at fault.
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { UnsupportedModel } from "../errors.ts";
import { encoderConfigFromHuggingFace } from "./encoder-config.ts";
import { encoderTensorShapes, openEncoder } from "./encoder-model.ts";

const TINY = join(import.meta.dirname, "../../test/goldens/tiny-bert");

let folder: string;
let config: Record<string, unknown>;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "encoder-"));
  config = JSON.parse(await readFile(join(TINY, "config.json"), "utf8")) as Record<string, unknown>;
});
afterAll(() => rm(folder, { recursive: true }));

/** The tiny model with another config. */
async function changed(changes: Record<string, unknown>): Promise<string> {
  await cp(TINY, folder, { recursive: true });
  await writeFile(join(folder, "config.json"), JSON.stringify({ ...config, ...changes }));
  return folder;
}

test("a folder is read whole", () => {
  const { config: read, feeds } = openEncoder(TINY);
  expect(read).toEqual({
    vocabSize: 116,
    hiddenSize: 24,
    layerCount: 2,
    heads: 3,
    headWidth: 8,
    mlpWidth: 40,
    normEpsilon: 1e-12,
    maxPositions: 48,
    segmentCount: 2,
  });
  expect(Object.keys(feeds)).toHaveLength(4 + 2 * 12);
  expect(feeds["layers.1.qkv.weight"]?.shape).toEqual([72, 24]);
});

test.each<[Record<string, unknown>, string]>([
  [{ model_type: "roberta" }, '"model_type" is "roberta"'],
  [
    { hidden_act: "gelu_new" },
    '"hidden_act" is "gelu_new"; supported: "gelu". Use a BERT model such as all-MiniLM-L6-v2.',
  ],
  [{ position_embedding_type: "relative_key" }, '"position_embedding_type" is "relative_key"'],
  [{ is_decoder: true }, '"is_decoder" is true; supported: false'],
  [
    { num_attention_heads: 5 },
    '"num_attention_heads" is 5; supported: a divisor of "hidden_size", which is 24',
  ],
  [{ layer_norm_eps: 0 }, '"layer_norm_eps" is 0'],
  [{ hidden_size: undefined }, '"hidden_size" is missing'],
])("a config with %j is refused", (changes, message) => {
  expect(() => encoderConfigFromHuggingFace({ ...config, ...changes })).toThrow(UnsupportedModel);
  expect(() => encoderConfigFromHuggingFace({ ...config, ...changes })).toThrow(message);
});

test("tensors that are missing, misshapen or left over are named", async () => {
  const more = await changed({ num_hidden_layers: 3 });
  expect(() => openEncoder(more)).toThrow(
    'tensor "encoder.layer.2.attention.self.query.weight" is missing; expected it with shape [24, 24]',
  );
  const wider = await changed({ intermediate_size: 41 });
  expect(() => openEncoder(wider)).toThrow("has shape [40, 24]; the config asks for [41, 24]");
  const fewer = await changed({ num_hidden_layers: 1 });
  expect(() => openEncoder(fewer)).toThrow(/tensor "encoder\.layer\.1\..*" is not part of a BERT encoder/);
});

test("files that are missing are named", async () => {
  expect(() => openEncoder(join(folder, "none"))).toThrow(
    "none does not exist; expected a Hugging Face model folder",
  );
  await rm(join(await changed({}), "tokenizer.json"));
  expect(() => openEncoder(folder)).toThrow("it has no tokenizer.json");
  await rm(join(folder, "config.json"));
  expect(() => openEncoder(folder)).toThrow("it has no config.json. Pass a BERT model's folder.");
});

test("every tensor of a layer is counted once", () => {
  const shapes = encoderTensorShapes(encoderConfigFromHuggingFace(config));
  expect(shapes.size).toBe(5 + 2 * 16);
  expect(shapes.get("encoder.layer.1.output.dense.weight")).toEqual([24, 40]);
});

test("a config that is a list is no JSON object", () => {
  expect(() => encoderConfigFromHuggingFace([], "folder/config.json")).toThrow(
    new UnsupportedModel("folder/config.json holds no JSON object. Get the file again.", {
      code: "unsupported_model",
    }),
  );
});
