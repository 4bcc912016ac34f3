// The messages of a chat request. Texts only: images, audio and files are refused by the name of their part.
import { z } from "zod";
import { functionCall } from "./chat-functions.ts";
import { addFault, notImplemented } from "./validation.ts";

const textPart = z.strictObject({ type: z.literal("text"), text: z.string() });
const partTypes = z.discriminatedUnion("type", [textPart]);
const content = z.union([z.string(), z.array(partTypes).min(1)]);
const name = z.string().min(1).max(64).nullish();

/** A refusal is what the assistant said, like any other text. */
const refusalPart = z
  .strictObject({ type: z.literal("refusal"), refusal: z.string() })
  .transform(({ refusal }) => ({ type: "text" as const, text: refusal }));
const saidParts = z.array(z.discriminatedUnion("type", [textPart, refusalPart])).min(1);
const said = z.union([z.string(), saidParts]).nullish();

const toolCall = z.strictObject({
  id: z.string().min(1),
  type: z.literal("function"),
  function: z
    .strictObject({
      name: z.string().min(1),
      arguments: z.string(),
      // The official clients' reading of the arguments. It describes the answer that was, and goes no further.
      parsed_arguments: z.unknown().optional(),
    })
    .transform(({ name, arguments: args }) => ({ name, arguments: args })),
  // What a stream's chunks hold beside it, when a client puts them together itself.
  index: z.number().nullish(),
});

/** With refusals among its texts. */
interface AssistantMessage {
  role: "assistant";
  content?: z.infer<typeof said>;
  name?: z.infer<typeof name>;
  tool_calls?: z.infer<typeof toolCall>[] | null | undefined;
  function_call?: z.infer<typeof functionCall> | null | undefined;
}

const message = z
  .discriminatedUnion("role", [
    z.strictObject({ role: z.literal("system"), content, name }),
    z.strictObject({ role: z.literal("developer"), content, name }),
    z.strictObject({ role: z.literal("user"), content, name }),
    z
      .strictObject({
        role: z.literal("assistant"),
        content: said,
        name,
        // A client sends earlier answers back as they came, so what such an answer holds must pass.
        refusal: z.string().nullish(),
        annotations: notImplemented([]),
        audio: notImplemented(),
        tool_calls: z.array(toolCall).nullish(),
        function_call: functionCall.nullish(),
        // The official clients' reading of the content. It describes the answer that was, and goes no further.
        parsed: z.unknown().optional(),
      })
      .transform(({ role, content, name, refusal, tool_calls, function_call }): AssistantMessage => ({
        role,
        content: withRefusal(content, refusal ?? null),
        name,
        tool_calls,
        function_call,
      })),
    // The name is the function's, which its call has too.
    z.strictObject({ role: z.literal("tool"), content, tool_call_id: z.string().min(1), name }),
    z.strictObject({
      role: z.literal("function"),
      content: z.string().nullish(),
      name: z.string().min(1).max(64),
    }),
  ])
  .meta({ id: "ChatRequestMessage" });
export type ChatRequestMessage = z.infer<typeof message>;

/** A conversation in which every tool call is answered, and every answer has its call. */
export const messages = z
  .array(message)
  .min(1)
  .superRefine((list, context) => {
    let open: { id: string; from: number }[] = [];
    for (const [index, each] of list.entries()) {
      if (each.role === "tool") {
        const known = open.some(({ id }) => id === each.tool_call_id);
        if (!known) {
          return addFault(context, {
            code: "invalid_value",
            path: [index, "tool_call_id"],
            message:
              "Invalid '{param}': messages with role 'tool' must answer a tool call of the preceding assistant message that has not been answered yet.",
          });
        }
        open = open.filter(({ id }) => id !== each.tool_call_id);
        continue;
      }
      if (open.length > 0) return addFault(context, unanswered(open));
      if (each.role !== "assistant") continue;
      const calls = each.tool_calls ?? [];
      const legacy = each.function_call ?? null;
      if ((each.content === null || each.content === undefined) && calls.length === 0 && legacy === null) {
        return addFault(context, {
          code: "invalid_type",
          path: [index, "content"],
          message: `Invalid type for '{param}': expected a string or an array, but got ${each.content === null ? "null" : "nothing"} instead. Only an assistant message with 'tool_calls' may be without content.`,
        });
      }
      const bad = calls.findIndex((call) => !isObjectText(call.function.arguments));
      const path =
        bad !== -1
          ? ["tool_calls", bad, "function", "arguments"]
          : legacy !== null && !isObjectText(legacy.arguments)
            ? ["function_call", "arguments"]
            : null;
      if (path !== null) {
        return addFault(context, {
          code: "invalid_value",
          path: [index, ...path],
          message: "Invalid '{param}': expected the JSON text of an object.",
        });
      }
      open = calls.map(({ id }) => ({ id, from: index }));
    }
    if (open.length > 0) addFault(context, unanswered(open));
  });

/** All that the assistant said. */
function withRefusal(content: z.infer<typeof said>, refusal: string | null): typeof content {
  if (refusal === null) return content;
  if (content === null || content === undefined) return refusal;
  return typeof content === "string" ? content + refusal : [...content, { type: "text", text: refusal }];
}

function unanswered(open: readonly { id: string; from: number }[]) {
  const [first] = open;
  return {
    code: "invalid_value",
    path: [first?.from ?? 0, "tool_calls"],
    message: `Invalid '{param}': an assistant message with 'tool_calls' must be followed by a message with role 'tool' for each 'tool_call_id'. Unanswered: ${open.map(({ id }) => id.slice(0, 64)).join(", ")}.`,
  };
}

/** Whether a text is the JSON of an object, as arguments of calls are. */
export function isObjectText(text: string): boolean {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value);
  } catch {
    return false;
  }
}
