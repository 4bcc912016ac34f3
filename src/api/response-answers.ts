// Pure converters of responses: a parsed request into the engine's and into the response object that answers it, and how that
// object ends.
import type { ChatMessage } from "../data/chat-message.ts";
import { InvalidRequest } from "../errors.ts";
import type { ChatPrompt, CompletionRequest, ServedModel, TokenReport } from "../serving/engine.ts";
import type { ChatTool, Usage } from "../wire/chat.ts";
import { newId } from "../wire/ids.ts";
import { patternBudget, schemaFault } from "../wire/json-schema.ts";
import type { ResponseOutputItem, ResponseOutputText } from "../wire/response-items.ts";
import { LOGPROBS_INCLUDE } from "../wire/responses.ts";
import type {
  CreateResponseRequest,
  ResponseFormat,
  ResponseObject,
  ResponsePrompt,
  ResponseTool,
  ResponseUsage,
} from "../wire/responses.ts";
import { toForm, toLogprobs, toTools } from "./chat-answers.ts";

/** What the model is shown. Throws InvalidRequest where JSON is asked for and not spoken of. */
export function toPrompt(body: ResponsePrompt, messages: readonly ChatMessage[]): ChatPrompt & Tools {
  if (body.text?.format?.type === "json_object" && !/json/i.test(JSON.stringify(messages))) {
    throw new InvalidRequest(
      "Response input messages must contain the word 'json' in some form to use 'text.format' of type 'json_object'.",
      { param: "input", code: "invalid_value" },
    );
  }
  return { messages, promptParam: "input", ...chatTools(body) };
}

type Tools = ReturnType<typeof toTools>;

function chatTools({ tools, tool_choice: choice, parallel_tool_calls: parallel }: ResponsePrompt): Tools {
  const budget = patternBudget();
  return toTools({
    tools: (tools ?? []).map(({ type, name, description, parameters, ...rest }): ChatTool => ({
      type,
      function: { name, description, parameters, strict: isStrict({ parameters, ...rest }, budget) },
    })),
    tool_choice:
      typeof choice === "object" && choice !== null
        ? { type: choice.type, function: { name: choice.name } }
        : choice,
    parallel_tool_calls: parallel,
  });
}

/** Functions of responses are strict unless the request says otherwise; one whose schema is not fit for that is not. */
function isStrict(
  { strict, parameters }: Pick<ResponseTool, "strict" | "parameters">,
  budget: ReturnType<typeof patternBudget>,
): boolean {
  return strict ?? schemaFault(parameters, { strict: true, budget }) === null;
}

export function toAnswerRequest(
  body: CreateResponseRequest,
  prompt: ChatPrompt & Tools,
  { model, signal }: { model: ServedModel; signal: AbortSignal },
): CompletionRequest {
  const format = body.text?.format;
  return {
    ...prompt,
    model,
    signal,
    maxTokens: body.max_output_tokens ?? null,
    temperature: body.temperature ?? 1,
    topP: body.top_p ?? 1,
    seed: null,
    stop: [],
    n: 1,
    ...(body.include?.includes(LOGPROBS_INCLUDE) === true ? { topLogprobs: body.top_logprobs ?? 0 } : {}),
    ...toForm({
      response_format: format?.type === "json_schema" ? { type: format.type, json_schema: format } : format,
    }),
  };
}

/** The response before there is an answer. `createdAt`: Unix seconds. */
export function newResponse(
  body: CreateResponseRequest,
  { model, createdAt }: { model: ServedModel; createdAt: number },
): ResponseObject {
  const background = body.background ?? false;
  const budget = patternBudget();
  return {
    id: newId("response"),
    object: "response",
    created_at: createdAt,
    status: background ? "queued" : "in_progress",
    background,
    completed_at: null,
    error: null,
    incomplete_details: null,
    instructions: body.instructions ?? null,
    max_output_tokens: body.max_output_tokens ?? null,
    model: model.id,
    output: [],
    parallel_tool_calls: body.parallel_tool_calls ?? true,
    previous_response_id: body.previous_response_id ?? null,
    prompt_cache_key: body.prompt_cache_key ?? null,
    reasoning: { effort: body.reasoning?.effort === "none" ? "none" : null, summary: null },
    safety_identifier: body.safety_identifier ?? null,
    service_tier: "default",
    store: body.store ?? true,
    temperature: body.temperature ?? 1,
    text: { format: toFormatObject(body.text?.format ?? { type: "text" }), verbosity: "medium" },
    tool_choice: body.tool_choice ?? "auto",
    tools: (body.tools ?? []).map((tool) => ({
      type: tool.type,
      name: tool.name,
      description: tool.description ?? null,
      parameters: tool.parameters ?? null,
      strict: isStrict(tool, budget),
    })),
    top_logprobs: body.top_logprobs ?? 0,
    top_p: body.top_p ?? 1,
    truncation: "disabled",
    usage: null,
    user: body.user ?? null,
    metadata: body.metadata ?? {},
  };
}

function toFormatObject(format: ResponseFormat): ResponseObject["text"]["format"] {
  if (format.type !== "json_schema") return format;
  const { type, name, description, schema, strict } = format;
  return { type, name, description: description ?? null, schema, strict: strict ?? false };
}

/** `completedAt`: Unix seconds. */
export function endedResponse(
  response: ResponseObject,
  end: { output: ResponseOutputItem[]; usage: Usage; isCutOff: boolean; completedAt: number },
): ResponseObject {
  const { output, isCutOff } = end;
  return {
    ...response,
    status: isCutOff ? "incomplete" : "completed",
    completed_at: isCutOff ? null : end.completedAt,
    incomplete_details: isCutOff ? { reason: "max_output_tokens" } : null,
    output,
    usage: toResponseUsage(end.usage),
  };
}

export function failedResponse(
  response: ResponseObject,
  { message, code }: { message: string; code: string | null },
): ResponseObject {
  return { ...response, status: "failed", error: { code: code ?? "server_error", message } };
}

function toResponseUsage(usage: Usage): ResponseUsage {
  return {
    input_tokens: usage.prompt_tokens,
    input_tokens_details: { cached_tokens: usage.prompt_tokens_details.cached_tokens },
    output_tokens: usage.completion_tokens,
    output_tokens_details: { reasoning_tokens: usage.completion_tokens_details.reasoning_tokens },
    total_tokens: usage.total_tokens,
  };
}

export function toTextPart(text: string, reports: readonly TokenReport[]): ResponseOutputText {
  return { type: "output_text", text, annotations: [], logprobs: toLogprobs(reports).content };
}
