// Reads llama.cpp's LoRA files, ours and others', as llama-adapter.cpp takes them. It shares no code with what writes them but the
// container's reader, so that a fault of the writer is not read away.
import { UnsupportedModel } from "../errors.ts";
import { adapterShapes, loraTensorName, type LoraAdapter } from "../model/adapter.ts";
import { huggingFaceName, unpermuteRows } from "../model/gguf-config.ts";
import { GgufFile } from "../model/gguf.ts";
import { LORA_TARGET_PATH, LORA_TARGETS, type LoraTarget } from "../model/lora-targets.ts";
import type { ModelConfig } from "../model/model-config.ts";
import { loraShapes } from "../model/tensor-shapes.ts";

/** What such a file may say of its adapter. Other members ask for more than a plain LoRA's product: a prefix, tokens that switch it on. */
const ADAPTER_KEYS: readonly string[] = ["adapter.type", "adapter.lora.alpha", "adapter.lora.task_name"];

/** The adapter by PEFT's names. Throws UnsupportedModel when the file is no adapter for a model of this config. */
export function readGgufAdapter(path: string, config: ModelConfig): LoraAdapter {
  const file = new GgufFile(path);
  try {
    const refuse = (problem: string) =>
      new UnsupportedModel(
        `${path} cannot be used as an adapter: ${problem}. Expected a LoRA file of llama.cpp for this base model.`,
        { code: "unsupported_adapter" },
      );
    const expected = {
      "general.architecture": config.family,
      "general.type": "adapter",
      "adapter.type": "lora",
    };
    for (const [key, value] of Object.entries(expected))
      if (file.metadata.get(key) !== value)
        throw refuse(`"${key}" is ${JSON.stringify(String(file.metadata.get(key)))}, not "${value}"`);
    for (const key of file.metadata.keys())
      if (key.startsWith("adapter.") && !ADAPTER_KEYS.includes(key))
        throw refuse(`"${key}" is not supported; expected a plain LoRA adapter`);
    const alpha = file.metadata.get("adapter.lora.alpha");
    if (typeof alpha !== "number" || !(alpha > 0) || !Number.isFinite(alpha))
      throw refuse(`"adapter.lora.alpha" is no number above 0`);

    const tensors: LoraAdapter["tensors"] = new Map();
    const targets = new Set<LoraTarget>();
    let rank = 0;
    for (const name of file.names()) {
      const [, base = "", letter = ""] = /^(.+)\.lora_([ab])$/.exec(name) ?? [];
      const [, layer = "", path = ""] =
        /^model\.layers\.(\d+)\.(.+)\.weight$/.exec(huggingFaceName(base, config.family)) ?? [];
      const target = LORA_TARGETS.find((each) => LORA_TARGET_PATH[each] === path);
      if (target === undefined) throw refuse(`tensor "${name}" belongs to no layer that can be adapted`);
      const shape = [...(file.shape(name) ?? [])];
      const isB = letter === "b";
      rank ||= (isB ? shape[1] : shape[0]) ?? 0;
      const expected = loraShapes(config, target, rank)[isB ? "b" : "a"];
      if (shape.join() !== expected.join())
        throw refuse(
          `tensor "${name}" has shape [${shape.join(", ")}]; rank and base model ask for [${expected.join(", ")}]`,
        );
      const values = file.read(name);
      const isReordered = isB && config.family === "llama" && (target === "q_proj" || target === "k_proj");
      const data = isReordered ? unpermuteRows(values, config.headWidth, rank) : values;
      targets.add(target);
      tensors.set(loraTensorName(Number(layer), target, isB ? "B" : "A"), { shape, data });
    }
    const targetModules = LORA_TARGETS.filter((target) => targets.has(target));
    if (targetModules.length === 0) throw refuse("it holds no tensors");
    const shapes = adapterShapes(config, { rank, targetModules });
    for (const name of shapes.keys()) if (!tensors.has(name)) throw refuse(`"${name}" is missing`);
    for (const name of tensors.keys())
      if (!shapes.has(name)) throw refuse(`"${name}" does not belong to this base model`);
    return { rank, alpha, dropout: 0, targetModules, baseModelId: "", tensors };
  } finally {
    file.close();
  }
}
