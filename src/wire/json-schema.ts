// The part of JSON Schema that answers can be held to: what a grammar (src/grammar/json-grammar.ts) can express exactly.
// Everything else is refused by name, because a keyword that is passed over would let invalid answers through.
import { MAX_PATTERN_STEPS, patternAutomaton } from "../grammar/automaton.ts";
import type { StepBudget } from "../grammar/automaton.ts";
import { FORMAT_PATTERNS } from "../grammar/formats.ts";
import { integerBounds } from "../grammar/json-grammar.ts";
import { parsePattern, PatternFault } from "../grammar/pattern.ts";
import { recursionFault } from "./schema-recursion.ts";

type Json = Record<string, unknown>;

/** Deeper schemas are not written by people, and the grammar compiler recurses. */
export const MAX_SCHEMA_DEPTH = 32;
/** The text of one schema: OpenAI's limit for all names and values together is of this size. */
export const MAX_SCHEMA_CHARACTERS = 65_536;
/**
 * Sub-schemas, enum values and states of patterns of one schema. The grammar of this many is made in a tenth of a second, or half a
 * second where most are of patterns, and nothing else is served meanwhile.
 */
export const MAX_SCHEMA_COST = 5_000;
/** Optional properties of one object cost their square by this: each may follow each. 500 come to 2,500. */
const OPTIONAL_COST_DIVISOR = 100;

const TYPES = ["object", "array", "string", "number", "integer", "boolean", "null"];
const ANNOTATIONS = [
  "title",
  "description",
  "default",
  "examples",
  "$schema",
  "$id",
  "$comment",
  "$defs",
  "definitions",
];
const BOUNDS = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"];
const CONSTRAINTS = [
  ...["properties", "required", "additionalProperties", "items", "minItems", "maxItems"],
  ...["minLength", "maxLength", "pattern", "format"],
  ...BOUNDS,
];
const FORMATS = Object.keys(FORMAT_PATTERNS);

export interface SchemaRules {
  /** OpenAI's strict mode: objects are closed and all their properties required. */
  strict: boolean;
  /** What all patterns of a request may cost together; a schema that is alone has its own. */
  budget?: StepBudget;
}

/** For the schemas of one request. */
export function patternBudget(): StepBudget {
  return { steps: MAX_PATTERN_STEPS };
}

/** What is wrong with a schema, as a sentence, or null. The root must be an object's schema. */
export function schemaFault(schema: unknown, rules: SchemaRules): string | null {
  const size = JSON.stringify(schema)?.length ?? 0;
  if (size > MAX_SCHEMA_CHARACTERS) {
    return `the schema has ${size} characters, expected at most ${MAX_SCHEMA_CHARACTERS}.`;
  }
  try {
    const check = new SchemaCheck(schema, rules);
    check.root();
    return null;
  } catch (error) {
    if (error instanceof SchemaFault) return error.message;
    throw error;
  }
}

class SchemaFault extends Error {}

class SchemaCheck {
  readonly #root: unknown;
  readonly #strict: boolean;
  readonly #budget: StepBudget;

  constructor(root: unknown, { strict, budget = patternBudget() }: SchemaRules) {
    this.#budget = budget;
    this.#root = root;
    this.#strict = strict;
  }

  root(): void {
    const root = this.#root;
    if (!isObject(root) || root["type"] !== "object") {
      throw new SchemaFault(
        `schema must be a JSON Schema of 'type: "object"', got ${shown(isObject(root) ? root["type"] : root)}.`,
      );
    }
    let cost = this.#schema(root, [], 0);
    for (const key of ["$defs", "definitions"]) {
      const definitions = root[key] ?? {};
      if (!isObject(definitions)) throw this.#fault([key], "must be an object");
      for (const [name, definition] of Object.entries(definitions))
        cost += this.#schema(definition, [key, name], 1);
    }
    if (cost > MAX_SCHEMA_COST) {
      throw new SchemaFault(
        `the schema is too large for a grammar: its sub-schemas, enum values and characters of patterns come to ${cost}, expected at most ${MAX_SCHEMA_COST}.`,
      );
    }
    const fault = recursionFault(root);
    if (fault !== null) throw this.#fault(fault.path, fault.clause);
  }

  /** Checks a schema; gives its cost. */
  #schema(value: unknown, path: readonly string[], depth: number): number {
    if (depth > MAX_SCHEMA_DEPTH) throw this.#fault(path, `is nested deeper than ${MAX_SCHEMA_DEPTH} levels`);
    if (!isObject(value)) throw this.#fault(path, `must be an object, got ${shown(value)}`);
    if (depth > 0 && ("$defs" in value || "definitions" in value)) {
      throw this.#fault(path, "has definitions, which are supported at the root only");
    }
    if ("$ref" in value) return this.#reference(value, path);
    if ("anyOf" in value) return this.#anyOf(value, path, depth);
    if ("enum" in value || "const" in value) return this.#values(value, path);
    this.#allow(value, path, ["type", ...CONSTRAINTS]);
    const types = this.#types(value, path);
    if (types === null) {
      const constraint = CONSTRAINTS.find((key) => key in value);
      if (constraint !== undefined) throw this.#fault(path, `has '${constraint}' but no 'type'`);
      if (this.#strict) throw this.#fault(path, "must have a 'type' key");
      return 1;
    }
    let cost = 1;
    if (types.includes("object")) cost += this.#object(value, path, depth);
    if (types.includes("array")) cost += this.#array(value, path, depth);
    if (types.includes("string")) cost += this.#string(value, path);
    if (types.includes("number") || types.includes("integer")) this.#number(value, types, path);
    return cost;
  }

  #reference(value: Json, path: readonly string[]): number {
    this.#allow(value, path, ["$ref"]);
    const target: unknown = value["$ref"];
    if (path.length === 0) throw this.#fault(path, "must not be a '$ref' itself");
    if (target === "#") return 1;
    const [, key = "", name = ""] = /^#\/(\$defs|definitions)\/([^/~%]+)$/.exec(String(target)) ?? [];
    const definitions = isObject(this.#root) ? this.#root[key] : undefined;
    if (!isObject(definitions) || !Object.hasOwn(definitions, name)) {
      throw this.#fault(
        path,
        `has '$ref' ${shown(target)}, expected '#' or the name of a definition at the root ('#/$defs/…')`,
      );
    }
    return 1;
  }

  #anyOf(value: Json, path: readonly string[], depth: number): number {
    this.#allow(value, path, ["anyOf"]);
    const branches = value["anyOf"];
    if (!Array.isArray(branches) || branches.length === 0)
      throw this.#fault(path, "must have at least one schema in 'anyOf'");
    return branches.reduce<number>(
      (sum, branch, i) => sum + this.#schema(branch, [...path, "anyOf", String(i)], depth + 1),
      1,
    );
  }

  #values(value: Json, path: readonly string[]): number {
    this.#allow(value, path, ["type", "enum", "const"]);
    if ("enum" in value && "const" in value) throw this.#fault(path, "has both 'enum' and 'const'; keep one");
    const values: unknown = "const" in value ? [value["const"]] : value["enum"];
    if (!Array.isArray(values) || values.length === 0)
      throw this.#fault(path, "must have at least one value in 'enum'");
    const types = this.#types(value, path);
    const stranger: unknown =
      types === null ? undefined : values.find((each) => !types.some((type) => isOfType(each, type)));
    if (stranger !== undefined)
      throw this.#fault(path, `has the value ${shown(stranger)}, which is not of its 'type'`);
    return values.length;
  }

  #types(value: Json, path: readonly string[]): string[] | null {
    if (!("type" in value)) return null;
    const types: unknown[] = Array.isArray(value["type"]) ? value["type"] : [value["type"]];
    const unknown = types.find((type) => !(TYPES as unknown[]).includes(type));
    if (types.length === 0 || unknown !== undefined) {
      throw this.#fault(
        path,
        `has 'type' ${shown(value["type"])}, expected one or more of ${TYPES.join(", ")}`,
      );
    }
    return types as string[];
  }

  #object(value: Json, path: readonly string[], depth: number): number {
    const properties = value["properties"] ?? {};
    const required = value["required"] ?? [];
    const additional = value["additionalProperties"];
    if (!isObject(properties)) throw this.#fault(path, "must have an object as 'properties'");
    if (!Array.isArray(required) || !required.every((name) => typeof name === "string")) {
      throw this.#fault(path, "must have an array of names as 'required'");
    }
    const missing = required.find((name) => !Object.hasOwn(properties, name));
    if (missing !== undefined)
      throw this.#fault(path, `requires ${shown(missing)}, which is not among its 'properties'`);
    if (this.#strict) {
      if (additional !== false)
        throw this.#fault(path, "must have 'additionalProperties' and it must be false");
      const optional = Object.keys(properties).find((name) => !required.includes(name));
      if (optional !== undefined) {
        throw this.#fault(
          path,
          `must have 'required' with every key of 'properties'; missing ${shown(optional)}`,
        );
      }
    }
    // Behind each property, all optional ones up to the next required one may come next.
    const optional = Object.keys(properties).length - new Set(required).size;
    let cost = Math.floor(optional ** 2 / OPTIONAL_COST_DIVISOR);
    if (additional !== undefined && typeof additional !== "boolean") {
      cost += this.#schema(additional, [...path, "additionalProperties"], depth + 1);
    }
    for (const [name, property] of Object.entries(properties)) {
      cost += this.#schema(property, [...path, "properties", name], depth + 1);
    }
    return cost;
  }

  #array(value: Json, path: readonly string[], depth: number): number {
    this.#range(value, path, "minItems", "maxItems");
    if ("items" in value) return this.#schema(value["items"], [...path, "items"], depth + 1);
    if (this.#strict) throw this.#fault(path, "must have 'items'");
    return 1;
  }

  #string(value: Json, path: readonly string[]): number {
    this.#range(value, path, "minLength", "maxLength");
    const given = ["pattern", "format", "minLength", "maxLength"].filter((key) => key in value);
    if (given.length > 1 && given.some((key) => key === "pattern" || key === "format")) {
      throw this.#fault(
        path,
        `has '${given[0]}' and '${given[1]}'; of 'pattern', 'format' and lengths only one can be kept`,
      );
    }
    const { pattern, format } = value;
    if (format !== undefined && !(FORMATS as unknown[]).includes(format)) {
      throw this.#fault(path, `has 'format' ${shown(format)}, supported are ${FORMATS.join(", ")}`);
    }
    return pattern === undefined ? 0 : this.#pattern(pattern, path);
  }

  #pattern(pattern: unknown, path: readonly string[]): number {
    try {
      if (typeof pattern !== "string") throw new PatternFault("which is not a regular expression");
      return patternAutomaton(parsePattern(pattern), this.#budget).length;
    } catch (error) {
      if (!(error instanceof PatternFault)) throw error;
      throw this.#fault(path, `has 'pattern' ${shown(pattern)}, ${error.message}`);
    }
  }

  #number(value: Json, types: readonly string[], path: readonly string[]): void {
    if (types.includes("number")) {
      const bound = BOUNDS.find((key) => key in value);
      if (bound === undefined) return;
      throw this.#fault(path, `has '${bound}', which is supported for "integer" alone, not for "number"`);
    }
    const bound = (key: string): number | undefined => {
      const given = value[key];
      if (given === undefined) return undefined;
      if (typeof given !== "number" || !Number.isSafeInteger(given))
        throw this.#fault(path, `has '${key}' ${shown(given)}, expected an integer`);
      return given;
    };
    for (const [inclusive, exclusive] of [
      ["minimum", "exclusiveMinimum"],
      ["maximum", "exclusiveMaximum"],
    ] as const) {
      if (bound(inclusive) !== undefined && bound(exclusive) !== undefined) {
        throw this.#fault(path, `has both '${inclusive}' and '${exclusive}'; keep one`);
      }
    }
    const [least, most] = integerBounds(value);
    if (
      (least ?? -Infinity) > Math.min(most ?? Infinity, Number.MAX_SAFE_INTEGER) ||
      (most ?? 0) < Number.MIN_SAFE_INTEGER
    )
      throw this.#fault(path, "has bounds that no number is within");
  }

  #range(value: Json, path: readonly string[], low: string, high: string): void {
    const read = (key: string): number | undefined => {
      const given = value[key];
      if (given === undefined) return undefined;
      if (typeof given !== "number" || !Number.isInteger(given) || given < 0) {
        throw this.#fault(path, `has '${key}' ${shown(given)}, expected an integer from 0`);
      }
      return given;
    };
    const [least, most] = [read(low), read(high)];
    if (least !== undefined && most !== undefined && least > most) {
      throw this.#fault(path, `has '${low}' above '${high}'`);
    }
  }

  #allow(value: Json, path: readonly string[], keys: readonly string[]): void {
    const stranger = Object.keys(value).find((key) => !keys.includes(key) && !ANNOTATIONS.includes(key));
    if (stranger === undefined) return;
    const isKnown = ["type", "$ref", "anyOf", "enum", "const", ...CONSTRAINTS].includes(stranger);
    throw this.#fault(
      path,
      isKnown
        ? `cannot have '${stranger}' beside '${keys.find((key) => key !== "type" && key in value)}'`
        : `has '${stranger}', which is not supported`,
    );
  }

  #fault(path: readonly string[], clause: string): SchemaFault {
    const place = path.map((part) => `'${part}'`).join(", ");
    return new SchemaFault(`in context=(${place}), the schema ${clause}.`);
  }
}

function isOfType(value: unknown, type: string): boolean {
  if (value === null) return type === "null";
  if (Array.isArray(value)) return type === "array";
  if (type === "integer") return Number.isInteger(value);
  return typeof value === type;
}

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function shown(value: unknown): string {
  const text = value === undefined ? "nothing" : (JSON.stringify(value) ?? typeof value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}
