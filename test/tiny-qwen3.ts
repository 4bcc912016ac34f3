// The tiny base model as another family: Qwen3's config and random weights of its own, under the same tokenizer and template.
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { makeTinyModel } from "../scripts/make-tiny-model.ts";
import { modelConfigFromHuggingFace } from "../src/model/huggingface-config.ts";
import { writeSafetensors } from "../src/model/safetensors.ts";
import { tensorShapes } from "../src/model/tensor-shapes.ts";
import { createRandom } from "../src/random.ts";

export async function makeTinyQwen3(folder: string): Promise<void> {
  await makeTinyModel(folder);
  const path = join(folder, "config.json");
  const config = {
    ...(JSON.parse(await readFile(path, "utf8")) as object),
    ...{ architectures: ["Qwen3ForCausalLM"], model_type: "qwen3" },
  };
  await writeFile(path, JSON.stringify(config));
  const random = createRandom(11);
  const tensors = [...tensorShapes(modelConfigFromHuggingFace(config))].map(([name, shape]) => {
    const length = shape.reduce((product, each) => product * each, 1);
    const data = Float32Array.from({ length }, () =>
      shape.length === 1 ? 0.5 + random.next() : 0.4 * (random.next() - 0.5),
    );
    return [name, { shape, data }] as const;
  });
  await writeSafetensors(join(folder, "model.safetensors"), new Map(tensors));
}
