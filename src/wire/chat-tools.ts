// Tools and answer formats of a chat request: functions with their schemas, the choice among them, JSON modes.
import { z } from "zod";
import { patternBudget, schemaFault } from "./json-schema.ts";
import { addFault } from "./validation.ts";

/** OpenAI's limit. */
export const MAX_TOOLS = 128;

/** The letters of a function's or a format's name; its length has a fault of its own. */
const IDENTIFIER = /^[A-Za-z0-9_-]*$/;

export const identifier = z
  .string()
  .min(1)
  .max(64)
  .superRefine((value, context) => {
    if (!IDENTIFIER.test(value)) {
      addFault(context, {
        code: "invalid_value",
        message: "Invalid '{param}': expected only letters, digits, '_' and '-'.",
      });
    }
  })
  .meta({ pattern: IDENTIFIER.source });
export const jsonObject = z.record(z.string(), z.unknown());

const tool = z
  .strictObject({
    type: z.literal("function"),
    function: z.strictObject({
      name: identifier,
      description: z.string().nullish(),
      parameters: jsonObject.nullish(),
      strict: z.boolean().nullish(),
    }),
  })
  .meta({ id: "ChatTool" });
export type ChatTool = z.infer<typeof tool>;

/** What chat and responses say of a function alike. */
interface FunctionDefinition {
  name: string;
  parameters?: Record<string, unknown> | null | undefined;
  strict?: boolean | null | undefined;
}

/** Every function has a name of its own, and a schema that can be kept where it is strict. `prefix` is the path within a tool. */
export function refineFunctions(
  definitions: readonly FunctionDefinition[],
  prefix: readonly string[],
  context: z.core.$RefinementCtx,
): void {
  const names = new Set<string>();
  const budget = patternBudget();
  for (const [index, { name, parameters, strict }] of definitions.entries()) {
    if (names.has(name)) {
      addFault(context, {
        code: "invalid_value",
        path: [index, ...prefix, "name"],
        message: `Invalid '{param}': there is another function named '${name}'. Give each its own name.`,
      });
    }
    names.add(name);
    if (strict !== true || parameters === null || parameters === undefined) continue;
    const fault = schemaFault(parameters, { strict: true, budget });
    if (fault !== null) {
      addFault(context, {
        code: "invalid_function_parameters",
        path: [index, ...prefix, "parameters"],
        message: `Invalid schema for function '${name}': ${fault}`,
      });
    }
  }
}

export const tools = z
  .array(tool)
  .max(MAX_TOOLS)
  .superRefine((list, context) =>
    refineFunctions(
      list.map((each) => each.function),
      ["function"],
      context,
    ),
  );

const namedFunction = z.strictObject({
  type: z.literal("function"),
  function: z.strictObject({ name: z.string().min(1) }),
});

export const toolChoice = z.union([
  z.enum(["none", "auto", "required"]),
  z.discriminatedUnion("type", [
    namedFunction,
    z.strictObject({
      type: z.literal("allowed_tools"),
      allowed_tools: z.strictObject({
        mode: z.enum(["auto", "required"]),
        tools: z.array(namedFunction).min(1).max(MAX_TOOLS),
      }),
    }),
  ]),
]);
export type ToolChoice = z.infer<typeof toolChoice>;

/** The functions that a choice names, each with its path. */
export function namedIn(choice: ToolChoice): { name: string; path: (string | number)[] }[] {
  if (typeof choice === "string") return [];
  if (choice.type === "function") return [{ name: choice.function.name, path: [] }];
  return choice.allowed_tools.tools.map(({ function: { name } }, index) => ({
    name,
    path: ["allowed_tools", "tools", index, "function", "name"],
  }));
}

export const responseFormat = z
  .discriminatedUnion("type", [
    z.strictObject({ type: z.literal("text") }),
    z.strictObject({ type: z.literal("json_object") }),
    z.strictObject({
      type: z.literal("json_schema"),
      json_schema: z.strictObject({
        name: identifier,
        description: z.string().nullish(),
        schema: jsonObject.nullish(),
        strict: z.boolean().nullish(),
      }),
    }),
  ])
  .superRefine((format, context) => {
    if (format.type === "json_schema") refineSchemaFormat(format.json_schema, context);
  })
  .meta({ id: "ResponseFormat" });

/** Answers can be held to the schema, if there is one. `path` leads from the format to what a fault names. */
export function refineSchemaFormat(
  format: {
    name: string;
    schema?: Record<string, unknown> | null | undefined;
    strict?: boolean | null | undefined;
  },
  context: z.core.$RefinementCtx,
  path: string[] = [],
): void {
  const { name, schema, strict } = format;
  const fault =
    schema === null || schema === undefined
      ? strict === true
        ? "there is no 'schema' to hold answers to."
        : null
      : schemaFault(schema, { strict: strict === true });
  if (fault === null) return;
  addFault(context, {
    code: "invalid_json_schema",
    path,
    message: `Invalid schema for response_format '${name}': ${fault}`,
  });
}
