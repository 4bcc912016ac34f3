// Tools and answer formats of a chat request: functions with their schemas, the choice among them, JSON modes.
import { z } from "zod";
import { schemaFault } from "./json-schema.ts";
import { addFault } from "./validation.ts";

/** OpenAI's limit. */
export const MAX_TOOLS = 128;

const identifier = z
  .string()
  .min(1)
  .max(64)
  .superRefine((value, context) => {
    if (!/^[A-Za-z0-9_-]*$/.test(value)) {
      addFault(context, {
        code: "invalid_value",
        message: "Invalid '{param}': expected only letters, digits, '_' and '-'.",
      });
    }
  });
const jsonObject = z.record(z.string(), z.unknown());

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

export const tools = z
  .array(tool)
  .max(MAX_TOOLS)
  .superRefine((list, context) => {
    const names = new Set<string>();
    for (const [index, { function: definition }] of list.entries()) {
      const { name, parameters, strict } = definition;
      if (names.has(name)) {
        addFault(context, {
          code: "invalid_value",
          path: [index, "function", "name"],
          message: `Invalid '{param}': there is another function named '${name}'. Give each its own name.`,
        });
      }
      names.add(name);
      if (strict !== true || parameters === null || parameters === undefined) continue;
      const fault = schemaFault(parameters, { strict: true });
      if (fault !== null) {
        addFault(context, {
          code: "invalid_function_parameters",
          path: [index, "function", "parameters"],
          message: `Invalid schema for function '${name}': ${fault}`,
        });
      }
    }
  });

export const toolChoice = z.union([
  z.enum(["none", "auto", "required"]),
  z.strictObject({ type: z.literal("function"), function: z.strictObject({ name: z.string().min(1) }) }),
]);

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
    if (format.type !== "json_schema") return;
    const { name, schema, strict } = format.json_schema;
    const fault =
      schema === null || schema === undefined
        ? strict === true
          ? "there is no 'schema' to hold answers to."
          : null
        : schemaFault(schema, { strict: strict === true });
    if (fault === null) return;
    addFault(context, {
      code: "invalid_json_schema",
      message: `Invalid schema for response_format '${name}': ${fault}`,
    });
  })
  .meta({ id: "ResponseFormat" });
