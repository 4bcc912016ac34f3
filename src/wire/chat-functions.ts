// The deprecated forerunner of tools, which old clients still send: functions, of which an answer calls at most one.
import { z } from "zod";
import { identifier, jsonObject, MAX_TOOLS } from "./chat-tools.ts";
import { addFault } from "./validation.ts";

export const functions = z
  .array(
    z.strictObject({
      name: identifier,
      description: z.string().nullish(),
      parameters: jsonObject.nullish(),
    }),
  )
  .max(MAX_TOOLS)
  .superRefine((list, context) => {
    const names = new Set<string>();
    for (const [index, { name }] of list.entries()) {
      if (names.has(name)) {
        addFault(context, {
          code: "invalid_value",
          path: [index, "name"],
          message: `Invalid '{param}': there is another function named '${name}'. Give each its own name.`,
        });
      }
      names.add(name);
    }
  });

export const functionChoice = z.union([
  z.enum(["none", "auto"]),
  z.strictObject({ name: z.string().min(1) }),
]);

/** A call in the past, in a message of the assistant's. */
export const functionCall = z.strictObject({ name: z.string().min(1), arguments: z.string() });

interface FunctionRequest {
  functions?: z.infer<typeof functions> | null | undefined;
  function_call?: z.infer<typeof functionChoice> | null | undefined;
  tools?: readonly unknown[] | null | undefined;
}

/** What of a request's functions does not go together; null when all does. */
export function functionFault(
  request: FunctionRequest,
): { path: string[]; code: string; message: string } | null {
  const offered = request.functions ?? [];
  const choice = request.function_call ?? "none";
  if (offered.length > 0 && (request.tools ?? []).length > 0) {
    return {
      path: ["functions"],
      code: "invalid_parameter_combination",
      message: "'functions' and 'tools' cannot be sent together. Send only 'tools'.",
    };
  }
  if (offered.length === 0 && choice !== "none") {
    return {
      path: ["function_call"],
      code: "invalid_value",
      message: "The 'function_call' parameter is only allowed when 'functions' are specified.",
    };
  }
  if (typeof choice === "object" && !offered.some(({ name }) => name === choice.name)) {
    return {
      path: ["function_call"],
      code: "invalid_value",
      message: `Invalid '{param}': there is no function named '${choice.name.slice(0, 64)}' in 'functions'.`,
    };
  }
  return null;
}
