// A JSON schema as people read it: its type and limits in a few words, its members in a table. Pure; it reads what zod writes,
// and no more of JSON Schema.
import type { JsonSchema } from "../wire/openapi.ts";
import { escaped, formatted } from "../wire/html-text.ts";

/** Type and limits, such as "list of text, 1 to 4 elements, or null". */
export function typeText(schema: JsonSchema): string {
  if (typeof schema["$ref"] === "string") return referenceText(schema["$ref"]);
  const branches = branchesOf(schema);
  if (branches !== null) return joined(branches.map(typeText));
  if (Array.isArray(schema["enum"])) return joined(schema["enum"].map(valueText));
  if ("const" in schema) return valueText(schema["const"]);
  if (Array.isArray(schema["type"])) {
    return joined(schema["type"].map((type: unknown) => typeText({ ...schema, type })));
  }
  switch (schema["type"]) {
    case "string":
      return stringText(schema);
    case "integer":
    case "number":
      return `${schema["type"] === "integer" ? "whole number" : "number"}${boundsText(schema)}`;
    case "boolean":
      return "true or false";
    case "null":
      return "<code>null</code>";
    case "array":
      return `list of ${typeText(schemaAt(schema, "items"))}${rangeText(schema, "Items", "elements")}`;
    case "object":
      return mapText(schema);
    default:
      return "any value";
  }
}

/** A table of an object's members, or of those of each form that an object may have; empty where there are none. */
export function membersTable(schema: JsonSchema): string {
  const properties = schema["properties"] as Record<string, JsonSchema> | undefined;
  if (properties === undefined) return formsOf(schema).map(formDetails).join("\n");
  const required = (schema["required"] ?? []) as string[];
  const rows = Object.entries(properties).map(
    ([name, member]) =>
      `<tr><td><code>${escaped(name)}</code>${required.includes(name) ? '<span class="required">required</span>' : ""}</td><td>${memberText(member)}</td></tr>`,
  );
  return rows.length === 0 ? "" : `<table><tbody>${rows.join("")}</tbody></table>`;
}

function memberText(member: JsonSchema): string {
  const { description, default: byDefault } = member;
  const details = formsOf(member).map(formDetails).join("");
  return [
    typeText(member) + (byDefault === undefined ? "" : `; default ${valueText(byDefault)}`),
    typeof description === "string" ? `<p>${formatted(description)}</p>` : "",
    details,
  ].join("");
}

const formDetails = (form: JsonSchema): string =>
  `<details><summary>${formTitle(form)}</summary>${membersTable(form)}</details>`;

/** A form is told by the one value its `type` or `role` has. */
function formTitle(form: JsonSchema): string {
  const properties = form["properties"] as Record<string, JsonSchema>;
  for (const key of ["type", "role"]) {
    const value = properties[key]?.["const"];
    if (value !== undefined) return `<code>${key}</code> ${valueText(value)}`;
  }
  return "members";
}

/** The objects with members inside a schema, through lists, maps and alternatives, but not through names. */
function formsOf(schema: JsonSchema): JsonSchema[] {
  if ("properties" in schema) return [schema];
  const inner = [
    ...(branchesOf(schema) ?? []),
    schemaAt(schema, "items"),
    schemaAt(schema, "additionalProperties"),
  ];
  return inner.flatMap((each) => (Object.keys(each).length === 0 ? [] : formsOf(each)));
}

function branchesOf(schema: JsonSchema): JsonSchema[] | null {
  const branches = schema["anyOf"] ?? schema["oneOf"];
  return Array.isArray(branches) ? (branches as JsonSchema[]) : null;
}

function schemaAt(schema: JsonSchema, key: string): JsonSchema {
  const inner = schema[key];
  return typeof inner === "object" && inner !== null && !Array.isArray(inner) ? (inner as JsonSchema) : {};
}

function referenceText(reference: string): string {
  const name = escaped(reference.split("/").at(-1) ?? "");
  return `<a href="#schema-${name}">${name}</a>`;
}

function stringText(schema: JsonSchema): string {
  if (schema["format"] === "binary") return "file";
  const pattern = schema["pattern"];
  return `text${rangeText(schema, "Length", "characters")}${typeof pattern === "string" ? `, as <code>${escaped(pattern)}</code>` : ""}`;
}

function mapText(schema: JsonSchema): string {
  if ("properties" in schema) return "object";
  const values = schemaAt(schema, "additionalProperties");
  const kind = Object.keys(values).length === 0 ? "object" : `map of ${typeText(values)}`;
  return `${kind}${rangeText(schema, "Properties", "members")}`;
}

function boundsText({ minimum, exclusiveMinimum, maximum }: JsonSchema): string {
  // Larger ones are those of the number's format, which nobody needs to read.
  const [least, most] = [minimum, maximum].map((bound) =>
    typeof bound === "number" && Math.abs(bound) < 2 ** 53 ? bound.toLocaleString("en") : undefined,
  );
  if (typeof exclusiveMinimum === "number") return ` above ${exclusiveMinimum}`;
  if (least !== undefined) return most === undefined ? ` from ${least}` : `, ${least} to ${most}`;
  return most === undefined ? "" : ` up to ${most}`;
}

function rangeText(schema: JsonSchema, what: string, unit: string): string {
  const [least, most] = [schema[`min${what}`], schema[`max${what}`]].map((bound) =>
    typeof bound === "number" ? bound.toLocaleString("en") : undefined,
  );
  if (most !== undefined)
    return least === undefined ? `, at most ${most} ${unit}` : `, ${least} to ${most} ${unit}`;
  return least === undefined ? "" : least === "1" ? ", not empty" : `, at least ${least} ${unit}`;
}

const valueText = (value: unknown): string => `<code>${escaped(JSON.stringify(value) ?? "")}</code>`;

/** "a, b or c", each once. */
function joined(parts: readonly string[]): string {
  const each = [...new Set(parts)];
  return each.length < 2 ? each.join("") : `${each.slice(0, -1).join(", ")} or ${each.at(-1) ?? ""}`;
}
