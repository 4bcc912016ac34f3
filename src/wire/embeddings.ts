// Embeddings: the request and the answer. Inputs are checked here by hand: a schema for each of their elements would cost more
// than encoding them.
import { z } from "zod";
import { addFault } from "./validation.ts";

/** Inputs of one request; OpenAI's limit. */
const MAX_INPUTS = 2048;

const INPUT_FORMS =
  "a string, an array of strings, an array of token ids, or an array of arrays of token ids";

/** Texts, or token ids; a single one of either becomes a list of one. */
export type EmbeddingInputs = readonly (string | readonly number[])[];

const input = z
  .unknown()
  .transform((value, context): EmbeddingInputs => {
    const fault = (code: string, message: string): never => {
      addFault(context, { code, message });
      return z.NEVER;
    };
    if (value === undefined)
      return fault("missing_required_parameter", "Missing required parameter: 'input'.");
    const inputs = asList(value);
    if (inputs === null) {
      return fault("invalid_type", `Invalid type for '{param}': expected ${INPUT_FORMS}.`);
    }
    if (inputs.length === 0) {
      return fault(
        "empty_array",
        "Invalid '{param}': empty array. Expected an array with minimum length 1, but got an empty array instead.",
      );
    }
    if (inputs.length > MAX_INPUTS) {
      return fault(
        "array_above_max_length",
        `Invalid '{param}': array too long. Expected an array with maximum length ${MAX_INPUTS}, but got an array with length ${inputs.length} instead.`,
      );
    }
    const kind = typeof inputs[0];
    for (const [i, one] of inputs.entries()) {
      const place = inputs.length === 1 && !isNested(value) ? "{param}" : `{param}[${i}]`;
      const isIds = Array.isArray(one) && one.every(isTokenId);
      if (typeof one !== kind || !(typeof one === "string" || isIds)) {
        return fault(
          "invalid_type",
          `Invalid type for '${place}': expected ${INPUT_FORMS}, the same for all; token ids are whole numbers from 0.`,
        );
      }
      if (one.length === 0) {
        return fault(
          typeof one === "string" ? "string_below_min_length" : "empty_array",
          `Invalid '${place}': it is empty. Expected at least one ${typeof one === "string" ? "character" : "token id"}.`,
        );
      }
    }
    return inputs as EmbeddingInputs;
  })
  .meta({
    anyOf: [
      { type: "string", minLength: 1 },
      { type: "array", items: { type: "string", minLength: 1 }, minItems: 1, maxItems: MAX_INPUTS },
      { type: "array", items: { type: "integer", minimum: 0 }, minItems: 1 },
      {
        type: "array",
        items: { type: "array", items: { type: "integer", minimum: 0 }, minItems: 1 },
        minItems: 1,
        maxItems: MAX_INPUTS,
      },
    ],
  });

/** An array of numbers is one input, as a text is. */
function asList(value: unknown): readonly unknown[] | null {
  if (typeof value === "string") return [value];
  if (!Array.isArray(value)) return null;
  return typeof value[0] === "number" ? [value] : (value as unknown[]);
}

const isNested = (value: unknown): boolean => Array.isArray(value) && typeof value[0] !== "number";

const isTokenId = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) >= 0;

export const createEmbeddingRequest = z
  .strictObject({
    input,
    model: z.string().min(1),
    encoding_format: z.enum(["float", "base64"]).nullish(),
    /** Its range is checked where the model is known, in the words that OpenAI has for it. */
    dimensions: z.number().meta({ type: "integer", minimum: 1 }).nullish(),
    /** Names the caller for logs and abuse checks; by contract it never changes the answer. */
    user: z.string().nullish(),
  })
  .meta({ id: "CreateEmbeddingRequest" });
export type CreateEmbeddingRequest = z.infer<typeof createEmbeddingRequest>;

const embeddingObject = z
  .object({
    object: z.literal("embedding"),
    index: z.int(),
    embedding: z
      .union([z.array(z.number()), z.string()])
      .describe("Numbers, or the base64 of them as little-endian float32."),
  })
  .meta({ id: "Embedding" });

export const embeddingList = z
  .object({
    object: z.literal("list"),
    data: z.array(embeddingObject),
    model: z.string(),
    usage: z.object({ prompt_tokens: z.int(), total_tokens: z.int() }),
  })
  .meta({ id: "EmbeddingList" });
export type EmbeddingList = z.infer<typeof embeddingList>;
