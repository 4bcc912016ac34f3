// Which schemas answers can be held to, and what is said about the others.
import { describe, expect, it } from "vitest";
import { MAX_SCHEMA_CHARACTERS, MAX_SCHEMA_COST, patternBudget, schemaFault } from "./json-schema.ts";

const closed = (properties: Record<string, unknown>, more: object = {}) => ({
  type: "object",
  properties,
  required: Object.keys(properties),
  additionalProperties: false,
  ...more,
});
const strict = (schema: unknown) => schemaFault(schema, { strict: true });
const loose = (schema: unknown) => schemaFault(schema, { strict: false });
const property = (schema: unknown) => loose({ type: "object", properties: { a: schema } });

it("takes OpenAI's strict subset", () => {
  const node = closed({ next: { anyOf: [{ $ref: "#/$defs/node" }, { type: "null" }] } });
  const all = closed(
    {
      a: { type: ["string", "null"], description: "x" },
      b: { type: "array", items: closed({ c: { enum: ["x", 1, null] } }), minItems: 1, maxItems: 5 },
      d: { type: "integer", minimum: -1, exclusiveMaximum: 2 },
      e: { $ref: "#/$defs/node" },
      f: { type: "string", pattern: "^[a-z]{2,4}$" },
      g: { type: "string", format: "uuid" },
    },
    { $defs: { node }, title: "All" },
  );
  expect(strict(all)).toBe(null);
});

it.each([
  [{ type: "string" }, 'schema must be a JSON Schema of \'type: "object"\', got "string".'],
  [
    { type: "object", properties: {} },
    "in context=(), the schema must have 'additionalProperties' and it must be false.",
  ],
  [closed({ a: {} }), "in context=('properties', 'a'), the schema must have a 'type' key."],
  [closed({ a: { type: "array" } }), "in context=('properties', 'a'), the schema must have 'items'."],
])("strict: %j", (schema, message) => expect(strict(schema)).toBe(message));

const REFUSED: [schema: object, clause: string][] = [
  ...[
    "not",
    "oneOf",
    "allOf",
    "if",
    "patternProperties",
    "minProperties",
    "uniqueItems",
    "multipleOf",
    "contains",
  ].map((key): [schema: object, clause: string] => [
    { type: "object", [key]: {} },
    `has '${key}', which is not supported`,
  ]),
  [
    { type: "text" },
    `has 'type' "text", expected one or more of object, array, string, number, integer, boolean, null`,
  ],
  [{ minLength: 1 }, "has 'minLength' but no 'type'"],
  [{ enum: [] }, "must have at least one value in 'enum'"],
  [{ type: "string", enum: [1] }, "has the value 1, which is not of its 'type'"],
  [{ anyOf: [{ type: "null" }], minLength: 1 }, "cannot have 'minLength' beside 'anyOf'"],
  [
    { $ref: "#/$defs/gone" },
    `has '$ref' "#/$defs/gone", expected '#' or the name of a definition at the root ('#/$defs/…')`,
  ],
  [{ type: "object", required: ["x"] }, `requires "x", which is not among its 'properties'`],
  [{ type: "string", minLength: 3, maxLength: 2 }, "has 'minLength' above 'maxLength'"],
  [
    { type: "string", pattern: "a", maxLength: 2 },
    "has 'pattern' and 'maxLength'; of 'pattern', 'format' and lengths only one can be kept",
  ],
  [{ type: "string", pattern: "(?=a)b" }, `has 'pattern' "(?=a)b", in which '(?=' is not supported`],
  [
    { type: "string", pattern: "^[^\\s\\S]$" },
    `has 'pattern' "^[^\\\\s\\\\S]$", which is one that no text matches`,
  ],
  [{ type: "string", pattern: "(" }, `has 'pattern' "(", which is not a regular expression`],
  [
    { type: "string", format: "iban" },
    `has 'format' "iban", supported are date-time, time, date, email, uuid, ipv4`,
  ],
  [{ type: "number", maximum: 1 }, `has 'maximum', which is supported for "integer" alone, not for "number"`],
  [{ type: "integer", minimum: 1.5 }, "has 'minimum' 1.5, expected an integer"],
  [{ type: "integer", minimum: 3, exclusiveMaximum: 3 }, "has bounds that no number is within"],
  [
    { type: ["number", "null"], minimum: 3 },
    `has 'minimum', which is supported for "integer" alone, not for "number"`,
  ],
  [{ type: "integer", exclusiveMinimum: Number.MAX_SAFE_INTEGER }, "has bounds that no number is within"],
  [{ type: "integer", exclusiveMaximum: Number.MIN_SAFE_INTEGER }, "has bounds that no number is within"],
];

it.each(REFUSED)("%j is refused", (schema, clause) => {
  expect(property(schema)).toBe(`in context=('properties', 'a'), the schema ${clause}.`);
});

describe("schemas that refer to themselves", () => {
  const of = ($defs: object) => ({ ...closed({ a: { $ref: "#/$defs/x" } }), $defs });
  const direct = "in context=('$defs', 'x'), the schema refers to itself with no object or array in between.";
  const endless =
    "in context=('$defs', 'x'), the schema has no value that ends: it requires a value that requires another, for ever.";

  it.each<[$defs: object, message: string]>([
    [{ x: { anyOf: [{ $ref: "#/$defs/x" }] } }, direct],
    [{ x: { anyOf: [{ type: "null" }, { $ref: "#/$defs/x" }] } }, direct],
    [{ x: { anyOf: [{ $ref: "#/$defs/y" }] }, y: { anyOf: [{ $ref: "#/$defs/x" }] } }, direct],
    [{ x: { $ref: "#/$defs/x" } }, direct],
    [{ x: closed({ next: { $ref: "#/$defs/x" } }) }, endless],
    [{ x: { type: "array", minItems: 1, items: { $ref: "#/$defs/x" } } }, endless],
  ])("%j is refused", ($defs, message) => expect(strict(of($defs))).toBe(message));

  it.each<[$defs: object]>([
    [{ x: closed({ next: { anyOf: [{ $ref: "#/$defs/x" }, { type: "null" }] } }) }],
    [{ x: { type: "array", items: { $ref: "#/$defs/x" } } }],
    [{ x: { $ref: "#/$defs/y" }, y: { anyOf: [{ type: "null" }, { $ref: "#" }] } }],
  ])("%j is taken", ($defs) => expect(strict(of($defs))).toBe(null));
});

it("all schemas of a request share what patterns may cost", () => {
  const heavy = closed({ a: { type: "string", pattern: "^.{1,400}$" } });
  const budget = patternBudget();
  const faults = Array.from({ length: 8 }, () => schemaFault(heavy, { strict: true, budget }));
  expect(faults[0]).toBe(null);
  expect(faults[7]).toContain("which is too large");
});

it("refuses what is too large", () => {
  expect(property({ enum: Array.from({ length: MAX_SCHEMA_COST }, (_, i) => i) })).toContain(
    `come to ${MAX_SCHEMA_COST + 1}, expected at most ${MAX_SCHEMA_COST}.`,
  );
  const optional = Object.fromEntries(Array.from({ length: 800 }, (_, i) => [`p${i}`, { type: "null" }]));
  expect(loose({ type: "object", properties: optional })).toContain("come to 7201, expected");
  expect(loose({ type: "object", properties: optional, required: Object.keys(optional) })).toBe(null);
  const patterns = Array.from({ length: 600 }, (_, i) => [
    `p${i}`,
    { type: "string", pattern: `[a-z]{2}${i}` },
  ]);
  expect(loose(closed(Object.fromEntries(patterns) as Record<string, unknown>))).toContain(
    "which is too large: write it with",
  );
  let deep: object = { type: "null" };
  for (let i = 0; i < 40; i++) deep = { type: "array", items: deep };
  expect(property(deep)).toContain("is nested deeper than 32 levels");
  expect(property({ const: "x".repeat(MAX_SCHEMA_CHARACTERS) })).toMatch(
    /^the schema has 65\d{3} characters, expected/,
  );
});
