// Responses: the requests with exact ranges, the response object, and the queries of its routes. A documented parameter that this
// server does not carry out is refused by name unless its value changes nothing.
import { z } from "zod";
import { identifier, jsonObject, MAX_TOOLS, refineFunctions, refineSchemaFormat } from "./chat-tools.ts";
import { listWithIdsSchema, pageQuery } from "./list.ts";
import { conversationItem, inputItem, outputItem } from "./response-items.ts";
import { addFault, decimal, integer, metadata, notImplemented } from "./validation.ts";

export const RESPONSE_STATUSES = [
  "queued",
  "in_progress",
  "completed",
  "incomplete",
  "failed",
  "cancelled",
] as const;
export type ResponseStatus = (typeof RESPONSE_STATUSES)[number];

/** OpenAI's smallest bound of an answer. */
const MIN_OUTPUT_TOKENS = 16;

/** They add members to items that no answer of this server has: tool calls other than functions, and images. */
const HARMLESS_INCLUDES = [
  "file_search_call.results",
  "web_search_call.results",
  "web_search_call.action.sources",
  "message.input_image.image_url",
  "computer_call_output.output.image_url",
  "code_interpreter_call.outputs",
] as const;
export const LOGPROBS_INCLUDE = "message.output_text.logprobs";

const tool = z.discriminatedUnion("type", [
  z.strictObject({
    type: z.literal("function"),
    name: identifier,
    description: z.string().nullish(),
    parameters: jsonObject.nullish(),
    /** Left out: strict where the schema is fit for it. */
    strict: z.boolean().nullish(),
    allowed_callers: notImplemented(),
    defer_loading: notImplemented(false),
    output_schema: notImplemented(),
  }),
]);
export type ResponseTool = z.infer<typeof tool>;

const tools = z
  .array(tool)
  .max(MAX_TOOLS)
  .superRefine((list, context) => refineFunctions(list, [], context));

const toolChoice = z.union([
  z.enum(["none", "auto", "required"]),
  z.discriminatedUnion("type", [
    z.strictObject({ type: z.literal("function"), name: z.string().min(1).max(128) }),
  ]),
]);

const format = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("text") }),
  z.strictObject({ type: z.literal("json_object") }),
  z
    .strictObject({
      type: z.literal("json_schema"),
      name: identifier,
      description: z.string().nullish(),
      schema: jsonObject,
      strict: z.boolean().nullish(),
    })
    .superRefine((each, context) => refineSchemaFormat(each, context, ["schema"])),
]);
export type ResponseFormat = z.infer<typeof format>;

const text = z.strictObject({ format: format.nullish(), verbosity: notImplemented("medium") }).nullish();

const reasoning = z
  .strictObject({
    // No model here reasons before it answers.
    effort: notImplemented("none"),
    summary: notImplemented(),
    generate_summary: notImplemented(),
    context: notImplemented(),
    mode: notImplemented(),
  })
  .nullish();

/** Each is a look into the database; more could not be shown to a model at once. */
const MAX_ITEM_REFERENCES = 1_000;

const inputItems = z
  .array(inputItem)
  .min(1)
  .superRefine((items, context) => {
    const count = items.filter(({ type }) => type === "item_reference").length;
    if (count <= MAX_ITEM_REFERENCES) return;
    addFault(context, {
      code: "invalid_value",
      message: `Invalid '{param}': expected at most ${MAX_ITEM_REFERENCES} items of type 'item_reference', but got ${count}. Send 'previous_response_id' instead.`,
    });
  });

/** What decides the prompt: the same for an answer and for counting its tokens. */
const promptMembers = {
  model: z.string().min(1),
  input: z.union([z.string(), inputItems]),
  instructions: z.string().nullish(),
  previous_response_id: z.string().min(1).nullish(),
  tools: tools.nullish(),
  tool_choice: toolChoice.nullish(),
  parallel_tool_calls: z.boolean().nullish(),
  text,
  conversation: notImplemented(),
  reasoning,
  truncation: notImplemented("disabled"),
};

export const createResponseRequest = z
  .strictObject({
    ...promptMembers,
    max_output_tokens: integer({ min: MIN_OUTPUT_TOKENS }).nullish(),
    temperature: decimal({ min: 0, max: 2 }).nullish(),
    top_p: decimal({ min: 0, max: 1 }).nullish(),
    top_logprobs: integer({ min: 0, max: 20 }).nullish(),
    include: z.array(z.enum([LOGPROBS_INCLUDE, ...HARMLESS_INCLUDES])).nullish(),
    stream: z.boolean().nullish(),
    /** Events are never padded here, so only false can be promised. */
    stream_options: z.strictObject({ include_obfuscation: notImplemented(false) }).nullish(),
    store: z.boolean().nullish(),
    background: z.boolean().nullish(),
    metadata: metadata.nullish(),
    // These three name the caller for logs, abuse checks and cache routing; by contract they never change the answer.
    user: z.string().nullish(),
    safety_identifier: z.string().max(64).nullish(),
    prompt_cache_key: z.string().nullish(),
    context_management: notImplemented([]),
    max_tool_calls: notImplemented(),
    moderation: notImplemented(),
    prompt: notImplemented(),
    prompt_cache_options: notImplemented(),
    prompt_cache_retention: notImplemented(),
    service_tier: notImplemented("auto", "default"),
  })
  .superRefine((request, context) => {
    const combination = (name: string, message: string): void =>
      addFault(context, { code: "invalid_parameter_combination", path: [name], message });
    refineToolChoice(request, context);
    if ((request.top_logprobs ?? 0) > 0 && request.include?.includes(LOGPROBS_INCLUDE) !== true) {
      combination(
        "top_logprobs",
        `The 'top_logprobs' parameter is only allowed when 'include' holds '${LOGPROBS_INCLUDE}'.`,
      );
    }
    if (isGiven(request.stream_options) && request.stream !== true) {
      combination(
        "stream_options",
        "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
      );
    }
    if (request.background !== true) return;
    if (request.store === false) {
      combination(
        "background",
        "The 'background' parameter is only allowed when 'store' is enabled: there would be no way to get the answer.",
      );
    }
    if (request.stream === true) {
      addFault(context, {
        code: "unsupported_parameter",
        path: ["background"],
        message:
          "Unsupported parameter: '{param}' beside 'stream' is not implemented by this server. Leave out 'stream' and ask for the response by its id.",
      });
    }
  })
  .meta({ id: "CreateResponse" });
export type CreateResponseRequest = z.infer<typeof createResponseRequest>;

export const countResponseTokensRequest = z
  .strictObject({ ...promptMembers, personality: notImplemented() })
  .superRefine(refineToolChoice)
  .meta({ id: "TokenCountsBody" });
export type ResponsePrompt = z.infer<typeof countResponseTokensRequest>;

function refineToolChoice(
  request: Pick<z.infer<z.ZodObject<typeof promptMembers>>, "tools" | "tool_choice">,
  context: z.core.$RefinementCtx,
): void {
  const { tools: offered, tool_choice: choice } = request;
  const fault = (message: string): void =>
    addFault(context, { code: "invalid_value", path: ["tool_choice"], message });
  if (choice === "required" && (offered ?? []).length === 0) {
    fault("Tool choice 'required' must be specified with 'tools' parameter.");
  }
  if (typeof choice !== "object" || choice === null) return;
  if (!(offered ?? []).some(({ name }) => name === choice.name)) {
    fault(`Invalid '{param}': there is no function named '${choice.name.slice(0, 64)}' in 'tools'.`);
  }
}

const isGiven = (value: unknown) => value !== null && value !== undefined;

const responseUsage = z.object({
  input_tokens: z.int(),
  input_tokens_details: z.object({ cached_tokens: z.int() }),
  output_tokens: z.int(),
  output_tokens_details: z.object({ reasoning_tokens: z.int() }),
  total_tokens: z.int(),
});
export type ResponseUsage = z.infer<typeof responseUsage>;

export const responseObject = z
  .object({
    id: z.string(),
    object: z.literal("response"),
    created_at: z.int(),
    status: z.enum(RESPONSE_STATUSES),
    background: z.boolean(),
    completed_at: z.int().nullable(),
    error: z.object({ code: z.string(), message: z.string() }).nullable(),
    incomplete_details: z.object({ reason: z.literal("max_output_tokens") }).nullable(),
    instructions: z.string().nullable(),
    max_output_tokens: z.int().nullable(),
    model: z.string(),
    output: z.array(outputItem),
    parallel_tool_calls: z.boolean(),
    previous_response_id: z.string().nullable(),
    prompt_cache_key: z.string().nullable(),
    reasoning: z.object({ effort: z.literal("none").nullable(), summary: z.null() }),
    safety_identifier: z.string().nullable(),
    service_tier: z.literal("default"),
    store: z.boolean(),
    temperature: z.number(),
    text: z.object({
      format: z.discriminatedUnion("type", [
        z.object({ type: z.literal("text") }),
        z.object({ type: z.literal("json_object") }),
        z.object({
          type: z.literal("json_schema"),
          name: z.string(),
          description: z.string().nullable(),
          schema: jsonObject,
          strict: z.boolean(),
        }),
      ]),
      verbosity: z.literal("medium"),
    }),
    tool_choice: toolChoice,
    tools: z.array(
      z.object({
        type: z.literal("function"),
        name: z.string(),
        description: z.string().nullable(),
        parameters: jsonObject.nullable(),
        strict: z.boolean(),
      }),
    ),
    top_logprobs: z.int(),
    top_p: z.number(),
    truncation: z.literal("disabled"),
    /** Null until the answer is complete. */
    usage: responseUsage.nullable(),
    user: z.string().nullable(),
    metadata: z.record(z.string(), z.string()),
  })
  .meta({ id: "Response" });
export type ResponseObject = z.infer<typeof responseObject>;

export const responseDeleted = z
  .object({
    id: z.string(),
    object: z.literal("response"),
    deleted: z.literal(true),
  })
  .meta({ id: "ResponseDeleted" });
export type ResponseDeleted = z.infer<typeof responseDeleted>;

export const responseInputTokens = z
  .object({
    object: z.literal("response.input_tokens"),
    input_tokens: z.int(),
  })
  .meta({ id: "ResponseInputTokens" });
export type ResponseInputTokens = z.infer<typeof responseInputTokens>;

export const responseItemList = listWithIdsSchema(conversationItem).meta({ id: "ResponseItemList" });
export type ResponseItemList = z.infer<typeof responseItemList>;

/** What was included when it was made is there, unasked; nothing can be added afterwards. */
const included = z.union([z.enum(HARMLESS_INCLUDES), z.array(z.enum(HARMLESS_INCLUDES))]).optional();
/** Clients write lists of a query either way. */
const includes = { include: included, "include[]": included };

export const retrieveResponseQuery = z.strictObject({
  ...includes,
  stream: notImplemented("false"),
  starting_after: notImplemented(),
  include_obfuscation: notImplemented("false"),
});

export const listInputItemsQuery = pageQuery({ defaultLimit: 20, maxLimit: 100 }).extend({
  ...includes,
  order: z.enum(["asc", "desc"]).default("desc"),
  before: notImplemented(),
});
