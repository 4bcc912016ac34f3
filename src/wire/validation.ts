// From a zod issue to OpenAI's words: message, parameter path and code of the first fault of a request, in one place.
// It also holds the number, text and "not implemented" schemas whose faults have codes of their own.
import { z } from "zod";
import { InvalidRequest } from "../errors.ts";
import { characterCount, firstCharacters } from "./characters.ts";

/** The request as its schema describes it. Throws InvalidRequest with OpenAI's code and the path of the first fault. */
export function parseRequest<S extends z.ZodType>(schema: S, value: unknown): z.output<S> {
  const result = schema.safeParse(value, { reportInput: true });
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  if (issue === undefined) throw new Error("internal: zod refused a value without an issue");
  const fault = describe(issue);
  throw new InvalidRequest(fault.message, { code: fault.code, param: fault.param });
}

interface Fault {
  message: string;
  code: string | null;
  param: string | null;
}

/** A check's own fault: `{param}` in the message becomes the path. */
export function addFault(
  context: z.core.$RefinementCtx,
  fault: { code: string; message: string; path?: (string | number)[] },
): void {
  context.addIssue({
    code: "custom",
    message: fault.message,
    params: { code: fault.code },
    ...(fault.path === undefined ? {} : { path: fault.path }),
  });
}

/**
 * Text that the database can keep as it is: SQLite ends a text at a NUL, and half a surrogate pair becomes another character.
 * For what is stored in a column of its own and sent back.
 */
export function storedText() {
  return z
    .string()
    .superRefine((value, context) => {
      if (!/[\0\p{Surrogate}]/u.test(value)) return;
      addFault(context, {
        code: "invalid_value",
        message: "Invalid '{param}': expected text without NUL characters and halves of surrogate pairs.",
      });
    })
    .meta({ pattern: "^[^\\u0000]*$" });
}

interface Range {
  min?: number;
  /** Excluded lower bound. */
  above?: number;
  max?: number;
}

/** A whole number within a range. */
export function integer(range: Range = {}) {
  return z
    .number()
    .superRefine((value, context) => {
      if (!Number.isInteger(value)) {
        addFault(context, {
          code: "invalid_type",
          message: `Invalid type for '{param}': expected an integer, but got a decimal number instead.`,
        });
      } else checkRange("integer", value, range, context);
    })
    .meta({ type: "integer", ...boundsOf(range) });
}

/** Any finite number within a range. */
export function decimal(range: Range = {}) {
  return z
    .number()
    .superRefine((value, context) => checkRange("decimal", value, range, context))
    .meta(boundsOf(range));
}

/** The range in the words of a JSON schema, which cannot be read out of a check of our own. */
function boundsOf({ min, above, max }: Range): Record<string, number> {
  return {
    ...(min === undefined ? {} : { minimum: min }),
    ...(above === undefined ? {} : { exclusiveMinimum: above }),
    ...(max === undefined ? {} : { maximum: max }),
  };
}

function checkRange(
  kind: "integer" | "decimal",
  value: number,
  range: Range,
  context: z.core.$RefinementCtx,
): void {
  const wrong = (edge: "below_min" | "above_max", words: string, sign: string, bound: number) =>
    addFault(context, {
      code: `${kind}_${edge}_value`,
      message: `Invalid '{param}': ${kind} ${words} value. Expected a value ${sign} ${bound}, but got ${value} instead.`,
    });
  if (range.min !== undefined && value < range.min) wrong("below_min", "below minimum", ">=", range.min);
  else if (range.above !== undefined && value <= range.above)
    wrong("below_min", "below minimum", ">", range.above);
  else if (range.max !== undefined && value > range.max) wrong("above_max", "above maximum", "<=", range.max);
}

/**
 * A documented parameter that this server does not carry out: only null and the values that change nothing pass, everything
 * else is refused by name, because a parameter must not be accepted and ignored.
 */
export function notImplemented(...harmless: readonly unknown[]) {
  return onlyHarmless(harmless, "'{param}' is not implemented by this server.");
}

/** The same in words of its own, `{param}` for the path; what to send instead is added. */
export function onlyHarmless(harmless: readonly unknown[], words: string) {
  const allowed = new Set(harmless.map((value) => JSON.stringify(value)));
  return z
    .unknown()
    .optional()
    .superRefine((value, context) => {
      if (value === undefined || value === null || allowed.has(JSON.stringify(value))) return;
      const choices = ["null", ...allowed].join(" or ");
      addFault(context, {
        code: "unsupported_parameter",
        message: `Unsupported parameter: ${words} Leave it out or send ${choices}.`,
      });
    })
    .meta({
      enum: [null, ...harmless],
      description: "Not implemented: every other value is refused with 400.",
    });
}

export const METADATA_MAX_PAIRS = 16;
const METADATA_MAX_KEY_LENGTH = 64;
const METADATA_MAX_VALUE_LENGTH = 512;
/** At most 16 pairs of short texts, as everywhere in this protocol. */
export const metadata = z
  .record(z.string(), z.string())
  .superRefine((pairs, context) => {
    const entries = Object.entries(pairs);
    if (entries.length > METADATA_MAX_PAIRS) {
      addFault(context, {
        code: "object_above_max_properties",
        message: `Invalid '{param}': too many properties. Expected at most ${METADATA_MAX_PAIRS}, but got ${entries.length} instead.`,
      });
    }
    for (const [key, value] of entries) {
      if (characterCount(key) > METADATA_MAX_KEY_LENGTH) {
        addFault(context, {
          code: "string_above_max_length",
          message: `Invalid '{param}': a key is too long. Expected at most ${METADATA_MAX_KEY_LENGTH} characters, but got ${characterCount(key)} instead.`,
        });
      }
      if (characterCount(value) > METADATA_MAX_VALUE_LENGTH) {
        addFault(context, {
          code: "string_above_max_length",
          path: [key],
          message: `Invalid '{param}': string too long. Expected a string with maximum length ${METADATA_MAX_VALUE_LENGTH}, but got ${sizeText(value)} instead.`,
        });
      }
    }
  })
  .meta({
    maxProperties: METADATA_MAX_PAIRS,
    propertyNames: { type: "string", maxLength: METADATA_MAX_KEY_LENGTH },
    additionalProperties: { type: "string", maxLength: METADATA_MAX_VALUE_LENGTH },
  });

function describe(issue: z.core.$ZodIssue, prefix: PropertyKey[] = []): Fault {
  const path = [...prefix, ...issue.path];
  const param = path.length === 0 ? null : pathText(path);
  const name = param ?? "the request body";
  const input = issue.input;
  const quoted = param === null ? name : `'${name}'`;
  const missing = (): Fault => ({
    message: `Missing required parameter: '${name}'.`,
    code: "missing_required_parameter",
    param,
  });

  switch (issue.code) {
    case "invalid_type":
      if (input === undefined && param !== null) return missing();
      return {
        message: `Invalid type for ${quoted}: expected ${TYPE_WORDS[issue.expected] ?? issue.expected}, but got ${typeWord(input)} instead.`,
        code: "invalid_type",
        param,
      };
    case "invalid_value":
      if (input === undefined && param !== null) return missing();
      return {
        message: `Invalid value for ${quoted}: ${shown(input)}. Supported values are: ${list(issue.values)}.`,
        code: "invalid_value",
        param,
      };
    case "unrecognized_keys": {
      const unknown = pathText([...path, issue.keys[0] ?? ""]);
      return {
        message: `Unknown parameter: '${unknown}'.`,
        code: "unknown_parameter",
        param: unknown,
      };
    }
    case "too_small":
      if (issue.origin === "array") {
        return {
          message: `Invalid '${name}': empty array. Expected an array with minimum length ${issue.minimum}, but got an empty array instead.`,
          code: "empty_array",
          param,
        };
      }
      return {
        message: `Invalid '${name}': ${issue.origin} too short. Expected a ${issue.origin} with minimum length ${issue.minimum}, but got ${sizeText(input)} instead.`,
        code: `${issue.origin}_below_min_length`,
        param,
      };
    case "too_big":
      return {
        message: `Invalid '${name}': ${issue.origin} too long. Expected ${article(issue.origin)} ${issue.origin} with maximum length ${issue.maximum}, but got ${sizeText(input)} instead.`,
        code: `${issue.origin}_above_max_length`,
        param,
      };
    case "invalid_union": {
      if (issue.errors.length === 0) return describeDiscriminator(issue, param, missing);
      // The branch of the right type says what is wrong; if every branch dislikes the type, so does the answer.
      const branch = issue.errors.find((issues) => !issues.some(isWrongAtRoot));
      const [nested] = branch ?? [];
      if (nested !== undefined) return describe(nested, path);
      if (input === undefined && param !== null) return missing();
      const expected = issue.errors.flatMap((issues) => issues.slice(0, 1).map(expectation));
      return {
        message: `Invalid type for ${quoted}: expected ${[...new Set(expected)].join(" or ")}, but got ${typeof input === "string" ? shown(input) : typeWord(input)} instead.`,
        code: "invalid_type",
        param,
      };
    }
    case "custom": {
      const code: unknown = issue.params?.["code"];
      return {
        message: issue.message.replaceAll("{param}", name),
        code: typeof code === "string" ? code : "invalid_value",
        param,
      };
    }
    case "invalid_format":
    case "invalid_key":
    case "invalid_element":
    case "not_multiple_of":
      return {
        message: `Invalid '${name}': ${issue.message}.`,
        code: "invalid_value",
        param,
      };
  }
}

function describeDiscriminator(
  issue: z.core.$ZodIssueInvalidUnion,
  param: string | null,
  missing: () => Fault,
): Fault {
  const key = issue.path.at(-1);
  const holder = issue.input;
  const given: unknown =
    typeof holder === "object" && holder !== null && typeof key === "string"
      ? (holder as Record<string, unknown>)[key]
      : undefined;
  if (given === undefined) return missing();
  const options = "options" in issue && Array.isArray(issue.options) ? issue.options : [];
  return {
    message: `Invalid value for '${param}': ${shown(given)}. Supported values are: ${list(options)}.`,
    code: "invalid_value",
    param,
  };
}

const isWrongAtRoot = (issue: z.core.$ZodIssue) =>
  issue.path.length === 0 && (issue.code === "invalid_type" || issue.code === "invalid_value");

function expectation(issue: z.core.$ZodIssue): string {
  if (issue.code === "invalid_type") return TYPE_WORDS[issue.expected] ?? issue.expected;
  if (issue.code === "invalid_value") return list(issue.values);
  return "another value";
}

const TYPE_WORDS: Partial<Record<string, string>> = {
  string: "a string",
  number: "a number",
  int: "an integer",
  boolean: "a boolean",
  object: "an object",
  record: "an object",
  array: "an array",
  null: "null",
};

function typeWord(value: unknown): string {
  if (value === null) return "null";
  if (value === undefined) return "nothing";
  if (Array.isArray(value)) return "an array";
  return TYPE_WORDS[typeof value] ?? typeof value;
}

function sizeText(value: unknown): string {
  if (typeof value === "string") return `a string with length ${characterCount(value)}`;
  if (Array.isArray(value)) return `an array with length ${value.length}`;
  return typeWord(value);
}

const article = (noun: string) => (/^[aeiou]/.test(noun) ? "an" : "a");

/** Values that may be sent; that something may be left out is not among them. */
const list = (values: readonly z.core.util.Primitive[]) =>
  values
    .filter((value) => value !== undefined)
    .map((value) => (value === null ? "null" : `'${String(value)}'`))
    .join(", ");

/** A value as it may stand in a message: short, so that a megabyte sent by mistake is not sent back. */
function shown(value: unknown): string {
  const text = typeof value === "string" ? `'${value}'` : (JSON.stringify(value) ?? typeWord(value));
  return characterCount(text) > 80 ? `${firstCharacters(text, 77)}...` : text;
}

/** messages[0].content, hyperparameters.n_epochs */
function pathText(path: readonly PropertyKey[]): string {
  return path.reduce<string>(
    (text, part) =>
      typeof part === "number" ? `${text}[${part}]` : text === "" ? String(part) : `${text}.${String(part)}`,
    "",
  );
}
