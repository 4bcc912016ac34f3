// What the decoder must know about a base model. A model that would compute something else than this project's decoder is
// refused by the name of the field that says so. How the two kinds of files say it: huggingface-config.ts, gguf-config.ts.
import { z } from "zod";
import { UnsupportedModel } from "../errors.ts";

export const MODEL_FAMILIES = ["llama", "qwen2", "qwen3", "gemma3"] as const;
export type ModelFamily = (typeof MODEL_FAMILIES)[number];

/** How the rotary frequencies are changed for longer contexts; null: not at all. */
export type RopeScaling =
  | null
  | {
      kind: "llama3";
      /** Low frequencies are divided by this. */
      factor: number;
      lowFrequencyFactor: number;
      highFrequencyFactor: number;
      /** Context length the model was first trained with, in tokens. */
      originalMaxPositions: number;
    }
  | { kind: "linear"; /** Positions are divided by this. */ factor: number };

/** Layers whose tokens see only the last few, and what else those layers have of their own. */
export interface SlidingAttention {
  /** How many tokens a token sees, itself among them. */
  windowTokens: number;
  /** By layer: true where the window holds; the others see all. */
  layers: readonly boolean[];
  /** Of the layers with the window, whose frequencies are never scaled. */
  ropeTheta: number;
}

export const ACTIVATIONS = ["silu", "geluTanh"] as const;

export interface ModelConfig {
  family: ModelFamily;
  /** V: rows of the embedding, which may exceed the tokenizer's vocabulary. */
  vocabSize: number;
  /** D. */
  hiddenSize: number;
  layerCount: number;
  /** H. */
  queryHeads: number;
  /** K; divides H. */
  keyValueHeads: number;
  /** E; even. H · E may differ from D. */
  headWidth: number;
  /** F. */
  mlpWidth: number;
  rmsNormEpsilon: number;
  ropeTheta: number;
  ropeScaling: RopeScaling;
  /** Longest context in tokens. */
  maxPositions: number;
  /** The output head is the embedding matrix. */
  tiedEmbeddings: boolean;
  /** q, k and v have bias vectors (o never has). */
  attentionBias: boolean;
  /** q and k pass an RMS norm per head before the rotary embedding. */
  queryKeyNorm: boolean;
  /** What the MLP's gate passes through. */
  activation: (typeof ACTIVATIONS)[number];
  /** What attention and MLP add to the stream passes an RMS norm before. */
  outputNorms: boolean;
  /** Norms' stored weights are what is added to 1. */
  normsAroundOne: boolean;
  /** Embedded tokens are multiplied by this; the head's matrix is not. */
  embeddingScale: number;
  /** Attention scores are divided by the square root of this; E in most families. */
  scoreScalar: number;
  /** null: every token sees all before it, in every layer. */
  sliding: SlidingAttention | null;
  bosTokenId: number | null;
  /** Generation ends at any of these; may be empty. */
  eosTokenIds: number[];
}

type Traits = Pick<
  ModelConfig,
  "attentionBias" | "queryKeyNorm" | "activation" | "outputNorms" | "normsAroundOne"
>;

const LLAMA: Traits = {
  attentionBias: false,
  queryKeyNorm: false,
  activation: "silu",
  outputNorms: false,
  normsAroundOne: false,
};

const TRAITS: { readonly [F in ModelFamily]: Traits } = {
  llama: LLAMA,
  qwen2: { ...LLAMA, attentionBias: true },
  qwen3: { ...LLAMA, queryKeyNorm: true },
  gemma3: { ...LLAMA, queryKeyNorm: true, activation: "geluTanh", outputNorms: true, normsAroundOne: true },
};

/** The members of a config that follow from the family alone. */
export function familyTraits(family: ModelFamily): Traits {
  return TRAITS[family];
}

/** Gemma multiplies embeddings by the root of their width, which no file of a model says. */
export function embeddingScaleOf(family: ModelFamily, hiddenSize: number): number {
  return family === "gemma3" ? Math.sqrt(hiddenSize) : 1;
}

/** Whether a layer's tokens see only the window's. */
export function isSliding({ sliding }: ModelConfig, layer: number): boolean {
  return sliding?.layers[layer] === true;
}

/** The one wording for every refused field: where, what was found, what is supported. */
/** What a schema wanted where it refused a field. */
export function wantedBy(issue: { code?: string; expected?: unknown; message: string } | undefined): string {
  if (issue?.code === "invalid_union") return "a token id or a list of them";
  if (issue?.code === "invalid_type" && typeof issue.expected === "string") {
    const kind = issue.expected === "int" ? "integer" : issue.expected;
    return `${/^[aeiou]/.test(kind) ? "an" : "a"} ${kind}`;
  }
  return issue?.message.replace(/^.*expected /, "") ?? "a JSON object";
}

export function unsupportedField(
  source: string,
  field: string,
  found: unknown,
  supported: string,
  advice = "Use a Llama, Qwen2.5, Qwen3 or Gemma 3 text model.",
): UnsupportedModel {
  // A schema's fault with the whole.
  if (field === "")
    return new UnsupportedModel(`${source} holds no JSON object. Get the file again.`, {
      code: "unsupported_model",
    });
  return new UnsupportedModel(`${source}: "${field}" is ${show(found)}; supported: ${supported}. ${advice}`, {
    code: "unsupported_model",
    param: field,
  });
}

/** Messages quote values of the file; a hostile file must not make them huge. */
const MAX_SHOWN_CHARACTERS = 120;
function show(found: unknown): string {
  if (found === undefined) return "missing";
  // JSON has neither NaN nor large integers, which GGUF metadata may hold.
  const text = typeof found === "number" || typeof found === "bigint" ? String(found) : JSON.stringify(found);
  return text.length <= MAX_SHOWN_CHARACTERS ? text : `${text.slice(0, MAX_SHOWN_CHARACTERS)}…`;
}

// Upper bounds are far above any published model of these families; they keep a corrupt header from asking for terabytes.
const size = (max: number) => z.number().int().min(1).max(max);
const SIZES = {
  vocabSize: size(4_194_304),
  hiddenSize: size(65_536),
  layerCount: size(1_024),
  queryHeads: size(1_024),
  keyValueHeads: size(1_024),
  headWidth: size(1_024).multipleOf(2),
  mlpWidth: size(1_048_576),
  maxPositions: size(16_777_216),
};

/** Checks the sizes and how they relate; `fieldNames` are the source's own names for the message. */
export function checkModelConfig(
  source: string,
  config: ModelConfig,
  fieldNames: {
    [K in keyof typeof SIZES | "rmsNormEpsilon" | "ropeTheta" | "scoreScalar" | "windowTokens"]: string;
  },
): ModelConfig {
  for (const key of Object.keys(SIZES) as (keyof typeof SIZES)[]) {
    const parsed = SIZES[key].safeParse(config[key]);
    if (!parsed.success) {
      const even = key === "headWidth" ? "an even whole number" : "a whole number";
      throw unsupportedField(
        source,
        fieldNames[key],
        config[key],
        `${even} from 1 to ${SIZES[key].maxValue ?? 0}`,
      );
    }
  }
  if (config.queryHeads % config.keyValueHeads !== 0)
    throw unsupportedField(
      source,
      fieldNames.keyValueHeads,
      config.keyValueHeads,
      `a divisor of "${fieldNames.queryHeads}", which is ${config.queryHeads}`,
    );
  if (config.sliding !== null && !SIZES.maxPositions.safeParse(config.sliding.windowTokens).success)
    throw unsupportedField(
      source,
      fieldNames.windowTokens,
      config.sliding.windowTokens,
      "a whole number of tokens, at least 1",
    );
  for (const key of ["rmsNormEpsilon", "ropeTheta", "scoreScalar"] as const)
    if (!(config[key] > 0 && Number.isFinite(config[key])))
      throw unsupportedField(source, fieldNames[key], config[key], "a finite number above 0");
  for (const id of [config.bosTokenId, ...config.eosTokenIds])
    if (id !== null && (id < 0 || id >= config.vocabSize))
      throw unsupportedField(
        source,
        "eos_token_id or bos_token_id",
        id,
        `token ids below the vocabulary size ${config.vocabSize}`,
      );
  return config;
}
