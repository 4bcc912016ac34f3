// A response's conversation: the items of a request become items that are kept, and those become the messages a model is shown.
// Pure; where a conversation is stored it does not know.
import type { ChatMessage, ToolCall } from "../data/chat-message.ts";
import { InvalidRequest } from "../errors.ts";
import { isObjectText } from "../wire/chat-messages.ts";
import { newId } from "../wire/ids.ts";
import type { ConversationItem, ResponseInputItem } from "../wire/response-items.ts";

/** The items of a request behind those that came before, each with an id that no other has, so that lists can be walked. */
export function continued(
  earlier: readonly ConversationItem[],
  input: string | readonly ResponseInputItem[],
): ConversationItem[] {
  const items: readonly ResponseInputItem[] =
    typeof input === "string" ? [{ role: "user", content: input }] : input;
  const ids = new Set(earlier.map(({ id }) => id));
  const added = items.map((item): ConversationItem => {
    const kind =
      item.type === "function_call" || item.type === "function_call_output" ? "functionCall" : null;
    const sent = item.id ?? null;
    const id = sent === null || ids.has(sent) ? newId(kind ?? "responseMessage") : sent;
    ids.add(id);
    return toConversationItem(item, id);
  });
  return [...earlier.map(withoutLogprobs), ...added];
}

/** They describe the answer that was, and say nothing to the next one, but may be many times its text. */
export function withoutLogprobs<Item extends ConversationItem>(item: Item): Item {
  if (item.type !== "message" || item.role !== "assistant") return item;
  return { ...item, content: item.content.map((part) => ({ ...part, logprobs: [] })) };
}

/** Whether an item of an answer is a call whose arguments the answer's end cut off: no template can show it to a model. */
export function isCutOffCall(item: ConversationItem): boolean {
  return item.type === "function_call" && !isObjectText(item.arguments);
}

function toConversationItem(item: ResponseInputItem, id: string): ConversationItem {
  const status = item.status ?? "completed";
  if (item.type === "function_call") {
    const { type, call_id, name } = item;
    return { id, type, status, arguments: item.arguments, call_id, name };
  }
  if (item.type === "function_call_output") {
    const { type, call_id, output } = item;
    return { id, type, status, call_id, output };
  }
  const type = "message";
  if (item.role === "assistant") {
    const texts = typeof item.content === "string" ? [item.content] : item.content.map(toSaidText);
    const content = texts.map((text) => ({
      type: "output_text" as const,
      text,
      annotations: [],
      logprobs: [],
    }));
    return { id, type, status, content, role: item.role };
  }
  const content =
    typeof item.content === "string" ? [{ type: "input_text" as const, text: item.content }] : item.content;
  return { id, type, status, content, role: item.role };
}

type SaidPart = Exclude<Extract<ResponseInputItem, { role: "assistant" }>["content"], string>[number];

const toSaidText = (part: SaidPart): string => (part.type === "refusal" ? part.refusal : part.text);

/** A message, and the results of the functions it calls, which follow it in the order of the calls. */
interface Turn {
  message: ChatMessage;
  results: Map<string, ChatMessage>;
}

/**
 * The conversation as chat has it: calls that follow each other, or a text, are one assistant message; results follow theirs.
 * Throws InvalidRequest for a call without result, a result without call, and arguments that are no JSON object.
 */
export function toMessages(instructions: string | null, items: readonly ConversationItem[]): ChatMessage[] {
  const turns: Turn[] = [];
  const unanswered = new Map<string, Turn>();
  /** The turn that a call would belong to. */
  let speaking: Turn | null = null;
  const add = (message: ChatMessage): Turn => {
    const turn = { message, results: new Map<string, ChatMessage>() };
    turns.push(turn);
    return turn;
  };
  if (instructions !== null) add({ role: "system", content: instructions });
  for (const item of items) {
    if (item.type === "message") {
      const turn = add({ role: item.role, content: item.content.map(({ text }) => text).join("") });
      speaking = item.role === "assistant" ? turn : null;
    } else if (item.type === "function_call") {
      if (unanswered.has(item.call_id)) {
        throw fault(
          `There are two function calls with the call_id ${item.call_id} and no output between them. Give each call its own.`,
        );
      }
      speaking ??= add({ role: "assistant", content: null });
      (speaking.message.tool_calls ??= []).push(toToolCall(item));
      unanswered.set(item.call_id, speaking);
    } else {
      const turn = unanswered.get(item.call_id);
      if (turn === undefined) {
        throw fault(`No tool call found for function call output with call_id ${item.call_id}.`);
      }
      unanswered.delete(item.call_id);
      const { output } = item;
      const content = typeof output === "string" ? output : output.map(({ text }) => text).join("");
      turn.results.set(item.call_id, { role: "tool", content, tool_call_id: item.call_id });
      speaking = null;
    }
  }
  const [open] = unanswered.keys();
  if (open !== undefined) throw fault(`No tool output found for function call ${open}.`);
  return turns.flatMap(({ message, results }) => [
    message,
    ...(message.tool_calls ?? []).flatMap(({ id }) => results.get(id) ?? []),
  ]);
}

function toToolCall(item: ConversationItem & { type: "function_call" }): ToolCall {
  if (!isObjectText(item.arguments)) {
    throw fault(
      `Invalid 'arguments' of the function call ${item.call_id}: expected the JSON text of an object.`,
      "invalid_value",
    );
  }
  return {
    id: item.call_id,
    type: "function",
    function: { name: item.name, arguments: item.arguments },
  };
}

const fault = (message: string, code: string | null = null) =>
  new InvalidRequest(message, { param: "input", code });
