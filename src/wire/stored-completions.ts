// Stored chat completions: the object, which differs from the answer that was given, its input messages, and the requests of
// its routes.
import { z } from "zod";
import { responseFormat, toolChoice, tools } from "./chat-tools.ts";
import { listWithIdsSchema, pageQuery } from "./list.ts";
import { metadata } from "./validation.ts";

const functionCall = z.object({ name: z.string(), arguments: z.string() });
const storedToolCall = z.object({ id: z.string(), type: z.literal("function"), function: functionCall });
const tokenLogprob = z.object({ token: z.string(), logprob: z.number(), bytes: z.array(z.int()) });

export const storedChatCompletion = z
  .object({
    object: z.literal("chat.completion"),
    id: z.string(),
    model: z.string(),
    created: z.int(),
    /** The request that was answered, as its header `x-request-id` had it. */
    request_id: z.string(),
    tool_choice: toolChoice.nullable(),
    usage: z.object({ total_tokens: z.int(), completion_tokens: z.int(), prompt_tokens: z.int() }),
    /** The seed that was used, also where the request had none. */
    seed: z.number(),
    top_p: z.number(),
    temperature: z.number(),
    presence_penalty: z.number(),
    frequency_penalty: z.number(),
    system_fingerprint: z.string(),
    /** The request's `user`. */
    input_user: z.string().nullable(),
    service_tier: z.literal("default"),
    tools: tools.nullable(),
    metadata,
    choices: z.array(
      z.object({
        index: z.int(),
        message: z.object({
          content: z.string().nullable(),
          role: z.literal("assistant"),
          tool_calls: z.array(storedToolCall).nullable(),
          function_call: functionCall.nullable(),
        }),
        finish_reason: z.enum(["stop", "length", "tool_calls", "function_call"]),
        logprobs: z
          .object({
            content: z.array(tokenLogprob.extend({ top_logprobs: z.array(tokenLogprob) })),
            refusal: z.null(),
          })
          .nullable(),
      }),
    ),
    response_format: responseFormat.nullable(),
  })
  .meta({ id: "StoredChatCompletion" });
export type StoredChatCompletion = z.infer<typeof storedChatCompletion>;

/** One message that the model was given. */
export const storedChatMessage = z
  .object({
    /** The completion's id, a hyphen and the message's index. */
    id: z.string(),
    role: z.enum(["system", "developer", "user", "assistant", "tool", "function"]),
    /** All text; of a list of parts, their texts in a row. */
    content: z.string().nullable(),
    name: z.string().nullable(),
    /** The parts, where the content came as a list of them. */
    content_parts: z.array(z.object({ type: z.literal("text"), text: z.string() })).nullable(),
    tool_calls: z.array(storedToolCall).optional(),
    tool_call_id: z.string().optional(),
    function_call: functionCall.optional(),
  })
  .meta({ id: "StoredChatMessage" });
export type StoredChatMessage = z.infer<typeof storedChatMessage>;

export const chatCompletionDeleted = z
  .object({
    object: z.literal("chat.completion.deleted"),
    id: z.string(),
    deleted: z.literal(true),
  })
  .meta({ id: "ChatCompletionDeleted" });
export type ChatCompletionDeleted = z.infer<typeof chatCompletionDeleted>;

export const storedChatCompletionList = listWithIdsSchema(storedChatCompletion).meta({
  id: "StoredChatCompletionList",
});
export const storedChatMessageList = listWithIdsSchema(storedChatMessage).meta({
  id: "StoredChatMessageList",
});

/** OpenAI's default page; the largest is not published. */
const page = { defaultLimit: 20, maxLimit: 100 };

/** Once `metadata[...]` is gathered. Newest first unless asked otherwise: as recorded, where the reference says the opposite. */
export const listChatCompletionsQuery = pageQuery(page).extend({
  model: z.string().min(1).optional(),
  metadata: metadata
    .nullish()
    .describe("As metadata[key]=value: pairs that must all match. metadata=null: as left out."),
  order: z.enum(["asc", "desc"]).default("desc"),
});

export const listChatMessagesQuery = pageQuery(page).extend({
  order: z.enum(["asc", "desc"]).default("asc"),
});

/** Replaces all metadata; null removes it. */
export const updateChatCompletionRequest = z
  .strictObject({ metadata: metadata.nullable() })
  .meta({ id: "UpdateChatCompletionRequest" });
