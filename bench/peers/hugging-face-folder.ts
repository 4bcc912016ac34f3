// A base model as a Hugging Face folder in f32, for programs that cannot read the file it came in: its dequantized weights, exactly
// the numbers that this project computes with, written as exports are.
import { mkdir } from "node:fs/promises";
import { writeHuggingFaceModel } from "../../src/export/huggingface-folder.ts";
import type { BaseModel } from "../../src/model/base-model.ts";

export async function writeHuggingFaceFolder(folder: string, model: BaseModel): Promise<void> {
  const { family, ropeScaling, eosTokenIds } = model.config;
  if (family !== "llama" || ropeScaling !== null)
    throw new Error(
      `Only plain Llama models are compared with peers; this one is ${family}, rope scaling ${ropeScaling?.kind ?? "none"}.`,
    );
  await mkdir(folder, { recursive: true });
  await writeHuggingFaceModel(folder, model, model, { type: "F32", endTokenIds: eosTokenIds });
}
