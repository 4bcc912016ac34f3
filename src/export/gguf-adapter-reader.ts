// Reads llama.cpp's LoRA files back, as llama-adapter.cpp takes them. It shares no code with what writes them but the container's
// reader, so that a fault of the writer is not read away.
import { UnsupportedModel } from "../errors.ts";
import { adapterShapes, loraTensorName, type LoraAdapter } from "../model/adapter.ts";
import { huggingFaceName, unpermuteRows } from "../model/gguf-config.ts";
import { GgufFile } from "../model/gguf.ts";
import { LORA_TARGET_PATH, LORA_TARGETS, type LoraTarget } from "../model/lora-targets.ts";
import type { ModelConfig } from "../model/model-config.ts";

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
    const alpha = file.metadata.get("adapter.lora.alpha");
    if (typeof alpha !== "number" || !(alpha > 0)) throw refuse(`"adapter.lora.alpha" is no number above 0`);

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
      const values = file.read(name);
      const isReordered = isB && config.family === "llama" && (target === "q_proj" || target === "k_proj");
      const data = isReordered ? unpermuteRows(values, config.headWidth, rank) : values;
      targets.add(target);
      tensors.set(loraTensorName(Number(layer), target, isB ? "B" : "A"), { shape, data });
    }
    const targetModules = LORA_TARGETS.filter((target) => targets.has(target));
    for (const [name, shape] of adapterShapes(config, { rank, targetModules }))
      if (tensors.get(name)?.shape.join() !== shape.join()) throw refuse(`"${name}" is missing or misshapen`);
    return { rank, alpha, dropout: 0, targetModules, baseModelId: "", tensors };
  } finally {
    file.close();
  }
}
