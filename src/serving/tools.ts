// A chat request's tools as serving needs them: how the model writes calls, and the grammar that keeps calls valid.
import type { ChatTemplate } from "../data/chat-template.ts";
import { InvalidRequest } from "../errors.ts";
import type { AnswerParts } from "./answer.ts";
import type { CompletionRequest } from "./engine.ts";
import type { AnswerForm } from "./answer-form.ts";

type OfferedTools = NonNullable<AnswerParts["tools"]>;

/** Null when the request has no tools. Throws InvalidRequest when the model's calls cannot be told from text. */
export function offerTools(
  { tools = [], toolChoice }: CompletionRequest,
  template: ChatTemplate,
): OfferedTools | null {
  if (tools.length === 0) return null;
  const shape = template.toolCallShape;
  if (shape === null) {
    throw new InvalidRequest(
      "This model's chat template writes tool calls in a form that this server cannot read. Leave out `tools`, or use another model.",
      { param: "tools" },
    );
  }
  return {
    shape,
    names: new Set(tools.map((tool) => tool.function.name)),
    isForced: toolChoice !== undefined,
    // As OpenAI does: a call that was asked for by name is an ordinary end.
    finishReason: typeof toolChoice === "object" ? "stop" : "tool_calls",
  };
}

const ANY_ARGUMENTS = { type: "object" };

/**
 * Calls name a tool that was offered, with arguments of its schema where that is strict or a call is forced. An answer that may
 * do without calls has the request's own form.
 */
export function toolForm(
  { tools = [], toolChoice, parallelToolCalls = true, constrainedTools, form }: CompletionRequest,
  { shape }: OfferedTools,
): AnswerForm {
  const callable =
    typeof toolChoice === "object" ? tools.filter((tool) => tool.function.name === toolChoice.name) : tools;
  return {
    type: "tools",
    shape,
    tools: callable.map(({ function: { name, parameters } }) => ({
      name,
      parameters: constrainedTools?.has(name) === true ? (parameters ?? ANY_ARGUMENTS) : ANY_ARGUMENTS,
    })),
    forced: toolChoice !== undefined,
    // As OpenAI does: a function that was asked for by name is called once.
    parallel: parallelToolCalls && typeof toolChoice !== "object",
    otherwise: form ?? null,
  };
}
