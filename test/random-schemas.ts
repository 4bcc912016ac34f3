// Random schemas of the part of JSON Schema that answers can be held to, each with random values that are valid under it.
import { createRandom } from "../src/random.ts";
import type { Random } from "../src/random.ts";

export type Schema = Record<string, unknown>;

/** Patterns with texts that they are found in. */
const PATTERNS: [pattern: string, texts: string[]][] = [
  ["^[A-Z]{2}-[0-9]{3}$", ["AB-123"]],
  ["^.+$", ['"', "\\", "a b", "é😀", "\u0000"]],
  ["^[^x]*$", ["", '"\n\\', "ü"]],
  ["yes|no", ["yes", "no", "nobody", 'say "yes"']],
  ["^yes|no$", ["yes!", "oh no"]],
  ["^[é-ü]$", ["é", "ü"]],
  ["^[😀-😂]{1,2}$", ["😁", "😂😀"]],
  ["[\\s\\S]\\D\\W", ["\nab-"]],
  ["^[!-~]{1,3}$", ['"\\"', "~"]],
  ['^("\\\\)*\\n?$', ['"\\"\\\n', ""]],
];
const FORMATS: [format: string, texts: string[]][] = [
  ["date", ["2024-02-29", "1999-12-31"]],
  ["time", ["23:59:59Z", "00:00:00.5+02:00"]],
  ["date-time", ["2023-02-28T10:00:00Z"]],
  ["email", ["a.b+c@example-1.org"]],
  ["uuid", ["123e4567-e89b-12d3-a456-426614174000"]],
  ["ipv4", ["127.0.0.1", "255.255.255.255"]],
];
const NAMES = ["a", "b", "ab", "", "ü €", 'quote "', "2", "1", "long_name", "\\", "\u0007", "𝔘"];
const TEXTS = [
  "",
  "a",
  "hello there",
  'quote "',
  "back\\slash",
  "line\nend",
  "tab\t",
  "é",
  "😀",
  "\u0001",
  "\u2028",
];

export interface RandomSchema {
  schema: Schema;
  value: (random: Random) => unknown;
}

function pick<T>(random: Random, list: readonly T[]): T {
  return list[random.below(list.length)] as T;
}

const anyValue = (random: Random): unknown =>
  pick(random, [
    null,
    true,
    0,
    -1.5,
    1e21,
    "x",
    [],
    {},
    [1, ["é"]],
    { a: { b: "\n" }, "": 1e-7 },
  ] as unknown[]);

export function randomSchema(random: Random, depth: number): RandomSchema {
  const kinds = ["enum", "string", "integer", "number", "simple", "pattern", "format", "types"];
  if (depth > 0) kinds.push("object", "object", "object", "array", "array", "anyOf", "any");
  return MAKERS[pick(random, kinds) as keyof typeof MAKERS](random, depth);
}

const MAKERS = {
  enum: (random: Random): RandomSchema => {
    const values = [1, "a", null, 'quote "', -1e-308, "ü😀", [1, { a: 2 }], false, "line\n"];
    const chosen = values.filter(() => random.below(3) === 0).concat(["x"]);
    return { schema: { enum: chosen }, value: (r) => pick(r, chosen) };
  },
  string: (random: Random): RandomSchema => {
    const least = random.below(4);
    const most = least + random.below(12);
    const schema: Schema = { type: "string" };
    if (random.below(2) === 0) schema["minLength"] = least;
    if (random.below(2) === 0) schema["maxLength"] = most;
    const fits = (text: string): boolean => {
      const length = Array.from(text).length;
      return length >= Number(schema["minLength"] ?? 0) && length <= Number(schema["maxLength"] ?? 99);
    };
    return { schema, value: (r) => pick(r, [...TEXTS.filter(fits), "😀".repeat(least)]) };
  },
  integer: (random: Random): RandomSchema => {
    const size = 10 ** (1 + random.below(6));
    const least = random.below(size) - Math.floor(size / 2);
    const most = least + random.below(size);
    const schema: Schema = { type: "integer" };
    if (random.below(3) > 0) schema["minimum"] = least;
    if (random.below(3) > 0) schema["exclusiveMaximum"] = most + 1;
    return { schema, value: (r) => least + r.below(most - least + 1) };
  },
  number: (): RandomSchema => ({
    schema: { type: "number" },
    value: (r) => pick(r, [0, 1.5, -3e-9, 12345.678901, 1e21, -0.1]),
  }),
  simple: (random: Random): RandomSchema => {
    const type = pick(random, ["boolean", "null"]);
    return { schema: { type }, value: (r) => (type === "null" ? null : r.below(2) === 0) };
  },
  pattern: (random: Random): RandomSchema => {
    const [pattern, texts] = pick(random, PATTERNS);
    return { schema: { type: "string", pattern }, value: (r) => pick(r, texts) };
  },
  format: (random: Random): RandomSchema => {
    const [format, texts] = pick(random, FORMATS);
    return { schema: { type: "string", format }, value: (r) => pick(r, texts) };
  },
  types: (random: Random): RandomSchema => {
    const bounded = random.below(2) === 0;
    return bounded
      ? { schema: { type: ["integer", "null"], minimum: 3 }, value: (r) => pick(r, [null, 3, 4, 99]) }
      : {
          schema: { type: ["string", "boolean"], maxLength: 3 },
          value: (r) => pick(r, ["", "abc", "😀é\n", true]),
        };
  },
  object: (random: Random, depth: number): RandomSchema => {
    const names = NAMES.filter(() => random.below(4) === 0);
    const parts = names.map((name) => ({
      name,
      part: randomSchema(random, depth - 1),
      isRequired: random.below(2) > 0,
    }));
    const additional = random.below(3) === 0 ? randomSchema(random, 0) : null;
    const choice = pick(random, [false, true, undefined, additional?.schema]);
    const schema: Schema = {
      type: "object",
      properties: Object.fromEntries(parts.map(({ name, part }) => [name, part.schema])),
      required: parts.filter(({ isRequired }) => isRequired).map(({ name }) => name),
      ...(choice === undefined ? {} : { additionalProperties: choice }),
    };
    const value = (r: Random): unknown => {
      const members = parts
        .filter(({ isRequired }) => isRequired || r.below(2) === 0)
        .map(({ name, part }): [string, unknown] => [name, part.value(r)]);
      if (choice !== false) {
        const others = ["other", "abc", "é", '"'].filter((name) => !names.includes(name) && r.below(3) === 0);
        const other = additional !== null && choice === additional.schema ? additional.value : anyValue;
        members.push(...others.map((name): [string, unknown] => [name, other(r)]));
      }
      return Object.fromEntries(members);
    };
    return { schema, value };
  },
  array: (random: Random, depth: number): RandomSchema => {
    const item = randomSchema(random, depth - 1);
    const least = random.below(3);
    const most = least + random.below(4);
    const schema: Schema = { type: "array", items: item.schema };
    if (random.below(2) === 0) schema["minItems"] = least;
    if (random.below(2) === 0) schema["maxItems"] = most;
    return {
      schema,
      value: (r) => Array.from({ length: least + r.below(most - least + 1) }, () => item.value(r)),
    };
  },
  anyOf: (random: Random, depth: number): RandomSchema => {
    const branches = Array.from({ length: 1 + random.below(3) }, () => randomSchema(random, depth - 1));
    return {
      schema: { anyOf: branches.map(({ schema }) => schema) },
      value: (r) => pick(r, branches).value(r),
    };
  },
  any: (): RandomSchema => ({ schema: {}, value: anyValue }),
};

/** A schema that a request may have: an object's. */
export function randomRoot(seed: number): RandomSchema {
  return MAKERS.object(createRandom(11, seed), 3);
}
