// Lists: the query parameters they share and the envelope they answer with.
import { z } from "zod";
import { InvalidRequest } from "../errors.ts";
import { metadata } from "./validation.ts";

/** Largest page of every list but files: OpenAI's own bound is not published; this one keeps an answer below about 1 MB. */
export const MAX_PAGE_SIZE = 1000;

/** A number in a query string. */
export function queryInteger(range: { min: number; max: number }) {
  const schema = z.string().transform((text, context) => {
    const value = /^-?[0-9]{1,15}$/.test(text) ? Number(text) : null;
    const fault = (code: string, message: string) => {
      context.addIssue({ code: "custom", params: { code }, message });
      return z.NEVER;
    };
    if (value === null) {
      return fault(
        "invalid_type",
        `Invalid type for '{param}': expected an integer, but got '${text.slice(0, 40)}' instead.`,
      );
    }
    if (value < range.min) {
      return fault(
        "integer_below_min_value",
        `Invalid '{param}': integer below minimum value. Expected a value >= ${range.min}, but got ${value} instead.`,
      );
    }
    if (value > range.max) {
      return fault(
        "integer_above_max_value",
        `Invalid '{param}': integer above maximum value. Expected a value <= ${range.max}, but got ${value} instead.`,
      );
    }
    return value;
  });
  return schema.meta({ type: "integer", minimum: range.min, maximum: range.max });
}

/** Of operations that take no parameters in their address. */
export const noQuery = z.strictObject({});

/** Of operations that take no body. */
export const noBody = z.strictObject({});

/** `limit` and `after`: the id of the last element already seen. */
export function pageQuery(page: { defaultLimit: number; maxLimit: number }) {
  return z.strictObject({
    limit: queryInteger({ min: 1, max: page.maxLimit })
      .default(page.defaultLimit)
      // The default is that of the number, so it would be left out of a schema of the text.
      .meta({ default: page.defaultLimit, description: "Elements of a page." }),
    after: z.string().min(1).optional().describe("The id of the last element already seen."),
  });
}

/**
 * Turns `metadata[key]=value` members of a flat query into one `metadata` object; `metadata=null` becomes null, and so does
 * `metadata=`, which OpenAI's Node client sends for null. Throws InvalidRequest for both forms at once.
 */
export function gatherMetadata(query: Record<string, unknown>): Record<string, unknown> {
  const flat: Record<string, unknown> = {};
  const pairs: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(query)) {
    const key = /^metadata\[(.*)\]$/s.exec(name)?.[1];
    if (key !== undefined) Object.defineProperty(pairs, key, { value, enumerable: true });
    else flat[name] = name === "metadata" && (value === "null" || value === "") ? null : value;
  }
  if (Object.keys(pairs).length === 0) return flat;
  if ("metadata" in flat) {
    throw new InvalidRequest(
      "Invalid 'metadata': expected pairs as metadata[key]=value, or metadata=null, but got both. Send one of them.",
      { code: "invalid_value", param: "metadata" },
    );
  }
  return { ...flat, metadata: pairs };
}

/** A `metadata` filter: pairs that must all match, or null for objects without metadata. */
export const metadataFilter = metadata
  .nullable()
  .optional()
  .describe("As metadata[key]=value: pairs that must all match. metadata=null: objects without metadata.");

/** Envelope with the first and last id, null when the list is empty. */
export interface ListWithIds<T> {
  object: "list";
  data: T[];
  has_more: boolean;
  first_id: string | null;
  last_id: string | null;
}

/** Envelope of fine-tuning jobs and events. */
export interface List<T> {
  object: "list";
  data: T[];
  has_more: boolean;
}

/** The schema of a list of these. */
export function listSchema<T extends z.ZodType>(element: T) {
  return z.object({ object: z.literal("list"), data: z.array(element), has_more: z.boolean() });
}

/** The schema of a list of these with the ids of its ends. */
export function listWithIdsSchema<T extends z.ZodType>(element: T) {
  return listSchema(element).extend({ first_id: z.string().nullable(), last_id: z.string().nullable() });
}

export function listOf<T>(data: T[], hasMore: boolean): List<T> {
  return { object: "list", data, has_more: hasMore };
}

export function listWithIds<T extends { id: string }>(data: T[], hasMore: boolean): ListWithIds<T> {
  return {
    object: "list",
    data,
    has_more: hasMore,
    first_id: data[0]?.id ?? null,
    last_id: data.at(-1)?.id ?? null,
  };
}
