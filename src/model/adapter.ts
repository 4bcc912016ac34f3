// LoRA adapters on disk, as PEFT reads and writes them: adapter_config.json and adapter_model.safetensors. Knows no graphs
// and no training; what PEFT can express and this project cannot compute is refused by name.
import { join } from "node:path";
import { z } from "zod";
import { UnsupportedModel } from "../errors.ts";
import { writeDirectoryAtomically, writeFileAtomically } from "./atomic-write.ts";
import { LORA_TARGETS, LORA_TARGET_PATH, type LoraTarget } from "./lora-targets.ts";
import type { ModelConfig } from "./model-config.ts";
import { readJson } from "./model-folder.ts";
import { SafetensorsFile, writeSafetensors } from "./safetensors.ts";
import { loraShapes } from "./tensor-shapes.ts";

export const ADAPTER_CONFIG_FILE = "adapter_config.json";
export const ADAPTER_WEIGHTS_FILE = "adapter_model.safetensors";

export interface AdapterTensor {
  shape: number[];
  data: Float32Array;
}

export interface LoraAdapter {
  /** R. */
  rank: number;
  /** The product B · A is scaled by alpha / rank. */
  alpha: number;
  /** What it was trained with; not used afterwards. */
  dropout: number;
  /** In the order of LORA_TARGETS. */
  targetModules: LoraTarget[];
  /** A Hugging Face id or a path: where PEFT looks for the base model. */
  baseModelId: string;
  /** By PEFT's names (`loraTensorName`): A is [R, in], B is [out, R]. */
  tensors: Map<string, AdapterTensor>;
}

/** PEFT's name of one matrix of a LoRA pair. */
export function loraTensorName(layer: number, target: LoraTarget, matrix: "A" | "B"): string {
  return `base_model.model.model.layers.${layer}.${LORA_TARGET_PATH[target]}.lora_${matrix}.weight`;
}

/** Name and shape of every tensor of an adapter, in the order layer, target, A before B. */
export function adapterShapes(
  config: ModelConfig,
  adapter: Pick<LoraAdapter, "rank" | "targetModules">,
): Map<string, [number, number]> {
  const shapes = new Map<string, [number, number]>();
  for (let layer = 0; layer < config.layerCount; layer++)
    for (const target of adapter.targetModules) {
      const { a, b } = loraShapes(config, target, adapter.rank);
      shapes.set(loraTensorName(layer, target, "A"), a);
      shapes.set(loraTensorName(layer, target, "B"), b);
    }
  return shapes;
}

/** Puts the adapter at `directory`, whole or not at all; one already there is replaced. Throws OutOfSpace on a full disk. */
export async function writeAdapter(directory: string, adapter: LoraAdapter): Promise<void> {
  await writeDirectoryAtomically(directory, (temporary) => writeAdapterFiles(temporary, adapter));
}

/** Writes the adapter's two files, flushed, into a folder that exists: a checkpoint's, which holds more than that. */
export async function writeAdapterFiles(directory: string, adapter: LoraAdapter): Promise<void> {
  await writeSafetensors(join(directory, ADAPTER_WEIGHTS_FILE), adapter.tensors);
  const text = JSON.stringify(peftConfig(adapter), null, 2);
  await writeFileAtomically(join(directory, ADAPTER_CONFIG_FILE), [`${text}\n`]);
}

/** The fields PEFT itself writes for a plain LoRA, sorted as it sorts them. */
function peftConfig(adapter: LoraAdapter): Record<string, unknown> {
  return {
    alpha_pattern: {},
    auto_mapping: null,
    base_model_name_or_path: adapter.baseModelId,
    bias: "none",
    fan_in_fan_out: false,
    inference_mode: true,
    init_lora_weights: true,
    layers_pattern: null,
    layers_to_transform: null,
    lora_alpha: adapter.alpha,
    lora_dropout: adapter.dropout,
    modules_to_save: null,
    peft_type: "LORA",
    r: adapter.rank,
    rank_pattern: {},
    revision: null,
    target_modules: [...adapter.targetModules].sort(),
    task_type: "CAUSAL_LM",
    use_dora: false,
    use_rslora: false,
  };
}

const configSchema = z.looseObject({
  peft_type: z.literal("LORA"),
  task_type: z.literal("CAUSAL_LM").nullish(),
  base_model_name_or_path: z.string().nullish(),
  r: z.number().int().min(1).max(65_536),
  lora_alpha: z.number().positive().finite(),
  lora_dropout: z.number().min(0).max(1).default(0),
  target_modules: z.array(z.enum(LORA_TARGETS)).min(1),
  // The other ways to start (pissa, olora, loftq, corda) change the base model's own weights.
  init_lora_weights: z.union([z.boolean(), z.enum(["gaussian", "eva", "orthogonal"])]).nullish(),
});

/** Fields that say how an adapter came to be or where its base lies, and do not change what it computes. */
const HARMLESS_FIELDS: ReadonlySet<string> = new Set([
  ...Object.keys(configSchema.shape),
  "auto_mapping",
  "inference_mode",
  "megatron_core",
  "peft_version",
  "qalora_group_size",
  "revision",
  "ensure_weight_tying",
]);

/**
 * Reads an adapter and checks it against the base model it is for. Every PEFT option that is on and not computed here is
 * refused by name, those of future PEFT versions too. Throws UnsupportedModel.
 */
export async function readAdapter(directory: string, config: ModelConfig): Promise<LoraAdapter> {
  const adapter: LoraAdapter = { ...readAdapterConfig(directory), tensors: new Map() };
  readTensors(directory, adapter, config);
  return adapter;
}

/** The adapter without its tensors. Throws UnsupportedModel. */
export function readAdapterConfig(directory: string): Omit<LoraAdapter, "tensors"> {
  const json = readJson(join(directory, ADAPTER_CONFIG_FILE));
  if (json === undefined) throw adapterError(directory, `it has no ${ADAPTER_CONFIG_FILE}`, null);
  const parsed = configSchema.safeParse(json);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    const field = issue?.path.map(String).join(".") ?? "";
    if (field === "") throw adapterError(directory, `${ADAPTER_CONFIG_FILE} holds no JSON object`, null);
    throw adapterError(directory, `"${field}" in ${ADAPTER_CONFIG_FILE} is wrong: ${issue?.message}`, field);
  }
  for (const [field, value] of Object.entries(parsed.data))
    if (!HARMLESS_FIELDS.has(field) && !isOff(value))
      throw adapterError(
        directory,
        `"${field}" in ${ADAPTER_CONFIG_FILE} is ${JSON.stringify(value).slice(0, 120)}; supported: plain LoRA, where it is off`,
        field,
      );
  const { r: rank, lora_alpha, lora_dropout, base_model_name_or_path } = parsed.data;
  const found = new Set(parsed.data.target_modules);
  return {
    rank,
    alpha: lora_alpha,
    dropout: lora_dropout,
    targetModules: LORA_TARGETS.filter((target) => found.has(target)),
    baseModelId: base_model_name_or_path ?? "",
  };
}

/** null, false, "none", 0, [] and {}: how PEFT writes an option that is not used. */
function isOff(value: unknown): boolean {
  if (typeof value === "object" && value !== null) return Object.keys(value).length === 0;
  return value === null || value === false || value === "none" || value === 0;
}

function readTensors(directory: string, adapter: LoraAdapter, config: ModelConfig): void {
  const file = new SafetensorsFile(join(directory, ADAPTER_WEIGHTS_FILE));
  try {
    const shapes = adapterShapes(config, adapter);
    for (const [name, shape] of shapes) {
      const found = file.shape(name);
      if (found === undefined) throw adapterError(directory, `tensor "${name}" is missing`, name);
      if (found.join() !== shape.join())
        throw adapterError(
          directory,
          `tensor "${name}" has shape [${found.join(", ")}]; rank and base model ask for [${shape.join(", ")}]`,
          name,
        );
      adapter.tensors.set(name, { shape: [...shape], data: file.read(name) });
    }
    for (const name of file.names())
      if (!shapes.has(name))
        throw adapterError(
          directory,
          `tensor "${name}" does not belong to the adapter of this base model`,
          name,
        );
  } finally {
    file.close();
  }
}

function adapterError(directory: string, problem: string, param: string | null): UnsupportedModel {
  return new UnsupportedModel(
    `${directory} cannot be used as an adapter: ${problem}. Expected a PEFT LoRA adapter for the linear layers of this base model.`,
    { code: "unsupported_adapter", param },
  );
}
