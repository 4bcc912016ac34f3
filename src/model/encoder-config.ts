// What the encoder must know about a BERT model, and how a Hugging Face config.json is read into it. A model that would
// compute something else than this project's encoder is refused by the name of the field that says so. Reads no files.
import { z } from "zod";
import type { UnsupportedModel } from "../errors.ts";
import { unsupportedField, wantedBy } from "./model-config.ts";

export interface EncoderConfig {
  /** V. */
  vocabSize: number;
  /** D: the width of an embedding. */
  hiddenSize: number;
  layerCount: number;
  /** H. */
  heads: number;
  /** E; H · E is D. */
  headWidth: number;
  /** F. */
  mlpWidth: number;
  normEpsilon: number;
  /** Longest row in tokens, the framing ones included. */
  maxPositions: number;
  /** Rows of the segment embedding; only the first is used, because a text is one segment. */
  segmentCount: number;
}

const size = z.int().min(1).max(1_000_000);
const configSchema = z.looseObject({
  model_type: z.literal("bert"),
  vocab_size: size,
  hidden_size: size,
  num_hidden_layers: size,
  num_attention_heads: size,
  intermediate_size: size,
  layer_norm_eps: z.number().positive(),
  max_position_embeddings: size,
  type_vocab_size: size,
});

/** Fields that change what the model computes, with the only value this encoder computes; absent and null are fine. */
const REQUIRED_VALUES: { field: string; supported: unknown }[] = [
  { field: "hidden_act", supported: "gelu" },
  { field: "position_embedding_type", supported: "absolute" },
  { field: "is_decoder", supported: false },
  { field: "add_cross_attention", supported: false },
];

function refused(source: string, field: string, found: unknown, supported: string): UnsupportedModel {
  return unsupportedField(source, field, found, supported, "Use a BERT model such as all-MiniLM-L6-v2.");
}

/**
 * The config of a Hugging Face model folder; `source` is the file's name for messages. Throws UnsupportedModel naming the
 * field that is missing, malformed or asks for something the encoder does not compute.
 */
export function encoderConfigFromHuggingFace(json: unknown, source = "config.json"): EncoderConfig {
  const parsed = configSchema.safeParse(json, { reportInput: true });
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    const field = issue?.path.join(".") ?? "";
    throw refused(source, field, issue?.input, wantedBy(issue));
  }
  const raw = parsed.data;
  for (const { field, supported } of REQUIRED_VALUES) {
    const found = raw[field] ?? supported;
    if (found !== supported) throw refused(source, field, found, JSON.stringify(supported));
  }
  const headWidth = raw.hidden_size / raw.num_attention_heads;
  if (!Number.isInteger(headWidth)) {
    throw refused(
      source,
      "num_attention_heads",
      raw.num_attention_heads,
      `a divisor of "hidden_size", which is ${raw.hidden_size}`,
    );
  }
  return {
    vocabSize: raw.vocab_size,
    hiddenSize: raw.hidden_size,
    layerCount: raw.num_hidden_layers,
    heads: raw.num_attention_heads,
    headWidth,
    mlpWidth: raw.intermediate_size,
    normEpsilon: raw.layer_norm_eps,
    maxPositions: raw.max_position_embeddings,
    segmentCount: raw.type_vocab_size,
  };
}
