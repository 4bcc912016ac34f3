// Which schemas answers can be held to, and what is said about the others.
import { expect, it } from "vitest";
import { MAX_SCHEMA_CHARACTERS, MAX_SCHEMA_COST, schemaFault } from "./json-schema.ts";

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
  [{ type: "string", pattern: "(?=a)b" }, `has 'pattern' "(?=a)b"; '(?' is not supported in patterns`],
  [{ type: "string", pattern: "(" }, `has 'pattern' "(", which is not a regular expression`],
  [
    { type: "string", format: "iban" },
    `has 'format' "iban", supported are date-time, time, date, email, uuid`,
  ],
  [{ type: "number", maximum: 1 }, `has 'maximum', which is supported for "integer" alone, not for "number"`],
  [{ type: "integer", minimum: 1.5 }, "has 'minimum' 1.5, expected an integer"],
  [{ type: "integer", minimum: 3, exclusiveMaximum: 3 }, "has bounds that no number is within"],
  [
    { type: "object", properties: { 'a"b': {} } },
    `has the property "a\\"b"; names with '"', '\\' or control characters are not supported`,
  ],
];

it.each(REFUSED)("%j is refused", (schema, clause) => {
  expect(property(schema)).toBe(`in context=('properties', 'a'), the schema ${clause}.`);
});

it("refuses what would take long to compile", () => {
  expect(property({ type: "string", maxLength: MAX_SCHEMA_COST })).toContain("is too large for a grammar");
  expect(
    property({
      type: "array",
      maxItems: 50,
      items: { type: "array", maxItems: 50, items: { type: "null" } },
    }),
  ).toMatch(/come to 2552, expected at most 2000\.$/);
  let deep: object = { type: "null" };
  for (let i = 0; i < 40; i++) deep = { type: "array", items: deep };
  expect(property(deep)).toContain("is nested deeper than 32 levels");
  expect(property({ const: "x".repeat(MAX_SCHEMA_CHARACTERS) })).toMatch(
    /^the schema has 65\d{3} characters, expected/,
  );
});
