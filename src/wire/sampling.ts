// Parameters that chat completions and legacy completions share.
import { z } from "zod";
import { addFault, decimal, integer, notImplemented } from "./validation.ts";

export const stop = z.union([z.string().min(1), z.array(z.string().min(1)).min(1).max(4)]).nullish();

/** Bounds of a signed 64-bit integer, which OpenAI's seed is. */
const INT64 = { min: -(2 ** 63), max: 2 ** 63 };
export const seed = integer(INT64).nullish();

export const penalty = decimal({ min: -2, max: 2 }).nullish();

/** More entries than anybody writes; each is a change of every token's logits. */
export const MAX_LOGIT_BIASES = 1024;

const TOKEN_ID = /^(0|[1-9]\d{0,8})$/;

/** Token ids as keys. */
export const logitBias = z
  .record(z.string(), decimal({ min: -100, max: 100 }))
  .superRefine((bias, context) => {
    const keys = Object.keys(bias);
    if (keys.length > MAX_LOGIT_BIASES) {
      addFault(context, {
        code: "object_above_max_properties",
        message: `Invalid '{param}': too many properties. Expected at most ${MAX_LOGIT_BIASES}, but got ${keys.length} instead.`,
      });
    }
    const stranger = keys.find((key) => !TOKEN_ID.test(key));
    if (stranger !== undefined) {
      addFault(context, {
        code: "invalid_value",
        message: `Invalid '{param}': expected token ids (whole numbers) as keys, but got '${stranger.slice(0, 40)}' instead.`,
      });
    }
  })
  .meta({
    maxProperties: MAX_LOGIT_BIASES,
    propertyNames: { type: "string", pattern: TOKEN_ID.source },
    description: "Token ids as keys.",
  })
  .nullish();

export const streamOptions = z
  .strictObject({
    include_usage: z.boolean().nullish(),
    /** Chunks are never padded here, so only false can be promised. */
    include_obfuscation: notImplemented(false),
  })
  .nullish();
