// JSON schemas as grammars over bytes. It takes the schemas that wire/json-schema.ts passes and holds answers to all of them: what
// the grammar lets through is valid. Properties come in the schema's order, those it does not name last.
import { otherTexts, patternAutomaton } from "./automaton.ts";
import { FORMAT_PATTERNS } from "./formats.ts";
import { integerPattern, NUMBER_PATTERN } from "./numbers.ts";
import { parsePattern } from "./pattern.ts";
import { RAW_CHARACTERS } from "./program.ts";
import type { ProgramBuilder } from "./program.ts";

type Schema = Readonly<Record<string, unknown>>;

const WHITESPACE = " \n\t";
const ALL_TYPES = ["object", "array", "string", "number", "boolean", "null"];

export class JsonGrammar {
  readonly #builder: ProgramBuilder;
  readonly #root: Schema;
  /** White space in a row between two parts. */
  readonly #whitespace: number;
  readonly #rules = new Map<string, number>();

  constructor(builder: ProgramBuilder, root: Schema, whitespace: number) {
    this.#builder = builder;
    this.#root = root;
    this.#whitespace = whitespace;
  }

  /** Where a text of the whole schema begins that `next` follows. */
  text(next: number): number {
    return this.#builder.call(this.#reference("#"), next);
  }

  #value(schema: Schema, next: number): number {
    const reference = schema["$ref"];
    if (typeof reference === "string") return this.#builder.call(this.#reference(reference), next);
    if (Array.isArray(schema["anyOf"])) {
      return this.#builder.choice(schema["anyOf"].map((branch) => this.#value(branch as Schema, next)));
    }
    const values: unknown = "const" in schema ? [schema["const"]] : schema["enum"];
    if (Array.isArray(values)) {
      const simple = values.filter((each) => typeof each !== "object" || each === null);
      const ways = values
        .filter((each) => typeof each === "object" && each !== null)
        .map((each) => this.#constant(each, next));
      const texts = simple.map((each) => JSON.stringify(each));
      return this.#builder.choice(
        texts.length === 0 ? ways : [...ways, this.#builder.oneLiteralOf(texts, next)],
      );
    }
    const { type } = schema as { type?: string | string[] };
    if (type === undefined) {
      const any = this.#rule("any", (end) =>
        this.#builder.choice(ALL_TYPES.map((each) => this.#typed(each, {}, end))),
      );
      return this.#builder.call(any, next);
    }
    const types = new Set(Array.isArray(type) ? type : [type]);
    // Every integer is a number, too.
    if (types.has("number")) types.delete("integer");
    return this.#builder.choice([...types].map((each) => this.#typed(each, schema, next)));
  }

  /** Exactly this value, its members in its order. */
  #constant(value: unknown, next: number): number {
    const builder = this.#builder;
    if (typeof value !== "object" || value === null) return builder.literal(JSON.stringify(value), next);
    const [open = "", close = ""] = Array.isArray(value) ? "[]" : "{}";
    const parts = Array.isArray(value)
      ? value.map((each): [string, unknown] => ["", each])
      : Object.entries(value).map(([name, each]): [string, unknown] => [JSON.stringify(name), each]);
    let at = builder.literal(close, next);
    for (const [i, [name, each]] of [...parts.entries()].reverse()) {
      at = this.#constant(each, i === parts.length - 1 ? this.#gap(at) : at);
      if (name !== "") at = builder.literal(`${name}:`, this.#gap(at));
      at = i === 0 ? this.#gap(at) : builder.literal(",", this.#gap(at));
    }
    return builder.literal(open, at);
  }

  #typed(type: string, schema: Schema, next: number): number {
    const builder = this.#builder;
    switch (type) {
      case "object":
        return this.#object(schema, next);
      case "array":
        return this.#array(schema, next);
      case "string":
        return this.#string(schema, next);
      case "number":
        return this.#pattern(NUMBER_PATTERN, next);
      case "integer":
        return this.#pattern(integerPattern(...integerBounds(schema)), next);
      case "boolean":
        return builder.choice(["true", "false"].map((each) => builder.literal(each, next)));
      default:
        return builder.literal("null", next);
    }
  }

  #object(schema: Schema, next: number): number {
    const properties = Object.entries((schema["properties"] ?? {}) as Record<string, Schema>);
    const required = new Set((schema["required"] ?? []) as string[]);
    const additional = schema["additionalProperties"] ?? {};
    const builder = this.#builder;
    const close = builder.literal("}", next);
    const comma = (member: number): number => builder.literal(",", this.#gap(member));
    /** What may follow the members so far: where there are none yet, and where there are some. */
    const ending = this.#gap(close);
    let first = close;
    let later = ending;
    if (additional !== false) {
      const { at, fill } = builder.reserve();
      const names = otherTexts(properties.map(([name]) => name));
      const value = this.#value(additional === true ? {} : (additional as Schema), at);
      const member = builder.literal(
        '"',
        builder.spelledText(names, builder.literal('":', this.#gap(value))),
      );
      fill(builder.choice([ending, comma(member)]));
      first = builder.choice([close, member]);
      later = at;
    }
    for (const [name, property] of properties.reverse()) {
      const member = builder.literal(`${JSON.stringify(name)}:`, this.#gap(this.#value(property, later)));
      const isRequired = required.has(name);
      first = isRequired ? member : builder.choice([member, first]);
      later = isRequired ? comma(member) : builder.choice([comma(member), later]);
    }
    return builder.literal("{", this.#gap(first));
  }

  #array(schema: Schema, next: number): number {
    const builder = this.#builder;
    const least = (schema["minItems"] ?? 0) as number;
    const most = (schema["maxItems"] ?? null) as number | null;
    const close = builder.literal("]", next);
    if (most === 0) return builder.literal("[", this.#gap(close));
    const first = this.#value((schema["items"] ?? {}) as Schema, builder.end);
    const rest = builder.literal(",", this.#gap(builder.call(first, builder.end)));
    const items = builder.repeat({ first, rest, least: Math.max(1, least), most, next: this.#gap(close) });
    return builder.literal("[", this.#gap(least === 0 ? builder.choice([close, items]) : items));
  }

  #string(schema: Schema, next: number): number {
    const builder = this.#builder;
    const close = builder.literal('"', next);
    const format = schema["format"];
    const pattern = typeof format === "string" ? FORMAT_PATTERNS[format] : schema["pattern"];
    if (typeof pattern === "string") return builder.literal('"', this.#pattern(pattern, close));
    const least = (schema["minLength"] ?? 0) as number;
    const most = (schema["maxLength"] ?? null) as number | null;
    const character = this.#rule("character", (end) => this.#character(end));
    const text = this.#rule("text", (end) => {
      const { at, fill } = builder.reserve();
      fill(builder.choice([end, this.#character(at)]));
      return at;
    });
    if (least === 0 && most === null) return builder.literal('"', builder.call(text, close));
    return builder.literal(
      '"',
      builder.repeat({ first: character, rest: character, least, most, next: close }),
    );
  }

  /** One character of a text in any spelling of JSON, whole pairs of surrogates only. */
  #character(next: number): number {
    const builder = this.#builder;
    const hexadecimal = (count: number, then: number): number =>
      count === 0
        ? then
        : builder.bytes(
            [
              [0x30, 0x39],
              [0x41, 0x46],
              [0x61, 0x66],
            ].map(([first = 0, last = 0]) => [first, last, hexadecimal(count - 1, then)] as const),
          );
    const low = builder.literal("\\u", builder.oneOf("dD", builder.oneOf("cdefCDEF", hexadecimal(2, next))));
    const escape = builder.choice([
      builder.oneOf('"\\/bfnrt', next),
      builder.literal(
        "u",
        builder.choice([
          builder.oneOf("0123456789abcefABCEF", hexadecimal(3, next)),
          builder.oneOf(
            "dD",
            builder.choice([
              builder.oneOf("01234567", hexadecimal(2, next)),
              builder.oneOf("89abAB", hexadecimal(2, low)),
            ]),
          ),
        ]),
      ),
    ]);
    return builder.choice([builder.spelled(RAW_CHARACTERS, next), builder.literal("\\", escape)]);
  }

  #pattern(source: string, next: number): number {
    const rule = this.#rule(`pattern ${source}`, (end) =>
      this.#builder.spelledText(patternAutomaton(parsePattern(source)), end),
    );
    return this.#builder.call(rule, next);
  }

  #reference(reference: string): number {
    return this.#rule(`reference ${reference}`, (end) => {
      const [, key = "", name = ""] = /^#\/(\$defs|definitions)\/(.*)$/s.exec(reference) ?? [];
      const definitions = this.#root[key] as Record<string, Schema> | undefined;
      return this.#value(reference === "#" ? this.#root : (definitions?.[name] ?? {}), end);
    });
  }

  /** A rule that is built once, and may call itself. */
  #rule(name: string, build: (end: number) => number): number {
    const known = this.#rules.get(name);
    if (known !== undefined) return known;
    const { at, fill } = this.#builder.reserve();
    this.#rules.set(name, at);
    fill(build(this.#builder.end));
    return at;
  }

  #gap(next: number): number {
    let gap = next;
    for (let i = 0; i < this.#whitespace; i++)
      gap = this.#builder.choice([next, this.#builder.oneOf(WHITESPACE, gap)]);
    return gap;
  }
}

/** The least and the greatest value that an integer's schema allows; null where there is no bound. */
export function integerBounds(schema: Schema): [least: number | null, most: number | null] {
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum } = schema as Record<
    string,
    number | undefined
  >;
  const least = minimum ?? (exclusiveMinimum === undefined ? null : exclusiveMinimum + 1);
  const most = maximum ?? (exclusiveMaximum === undefined ? null : exclusiveMaximum - 1);
  return [least, most];
}
