// What has one right answer in a line of supervised data, corrected and told of: other names for the same format, roles, texts, weights,
// tool calls, members that do not belong there.
import { isObject } from "../fault.ts";
import type { JsonObject } from "../fault.ts";
import { MESSAGE_KEYS, TOP_LEVEL_KEYS } from "../training-example.ts";

/** What has one right answer in a supervised example, corrected; each correction is added to `changes`. */
export function mendChat(value: unknown, changes: string[]): unknown {
  if (!isObject(value)) return value;
  const example = toMessages(value, changes);
  const messages = example["messages"];
  if (!Array.isArray(messages)) return example;
  const kept = withoutExtra(example, TOP_LEVEL_KEYS, "", changes);
  return { ...kept, messages: mendMessages(messages, "", changes) };
}

/** `place`: what stands before "message 1" in a correction. */
export function mendMessages(messages: readonly unknown[], place: string, changes: string[]): unknown[] {
  return messages.map((message, i) =>
    isObject(message) ? mendMessage(message, `${place}message ${i + 1}: `, changes) : message,
  );
}

/** Two other formats that say the same. */
function toMessages(value: JsonObject, changes: string[]): JsonObject {
  const { prompt, completion, conversations, ...rest } = value;
  if ("messages" in value) return value;
  if (typeof prompt === "string" && typeof completion === "string") {
    changes.push("wrote prompt and completion as a user and an assistant message");
    const messages = [
      { role: "user", content: prompt },
      { role: "assistant", content: completion },
    ];
    return { ...rest, messages };
  }
  if (Array.isArray(conversations) && conversations.every((turn) => isObject(turn) && "from" in turn)) {
    changes.push("wrote conversations (from, value) as messages (role, content)");
    return { ...rest, messages: conversations.map(fromTurn) };
  }
  return value;
}

/** A turn as {"from", "value"} as a message. */
export function fromTurn({ from, value: content, ...others }: JsonObject): JsonObject {
  return { role: from, content, ...others };
}

const ROLE_NAMES: Readonly<Record<string, string>> = {
  human: "user",
  gpt: "assistant",
  bot: "assistant",
  ai: "assistant",
  model: "assistant",
};

export function mendMessage(message: JsonObject, place: string, changes: string[]): JsonObject {
  let mended: JsonObject = { ...message };
  const set = (key: string, value: unknown, what: string) => {
    mended = { ...mended, [key]: value };
    changes.push(`${place}${what}`);
  };
  const { role, content, weight } = message;
  if (typeof role === "string" && !Object.hasOwn(MESSAGE_KEYS, role)) {
    const plain = role.trim().toLowerCase();
    const known = (Object.hasOwn(ROLE_NAMES, plain) ? ROLE_NAMES[plain] : undefined) ?? plain;
    if (Object.hasOwn(MESSAGE_KEYS, known))
      set("role", known, `wrote role "${role.slice(0, 20)}" as "${known}"`);
  }
  if (typeof content === "number" || typeof content === "boolean")
    set("content", String(content), `wrote the content ${String(content)} as a text`);
  if (typeof message["refusal"] === "string" && (content === null || content === undefined)) {
    const { refusal, ...rest } = mended;
    mended = rest;
    set("content", refusal, "wrote the refusal's text as content");
  }
  const number = ({ true: 1, false: 0, "0": 0, "1": 1 } as Record<string, number>)[String(weight)];
  if (weight !== undefined && weight !== 0 && weight !== 1 && number !== undefined)
    set("weight", number, `wrote weight ${JSON.stringify(weight)} as ${number}`);
  if (Array.isArray(message["tool_calls"])) {
    const before = changes.length;
    const calls = message["tool_calls"].map((call: unknown, i) =>
      isObject(call) ? mendCall(call, `${place}tool_calls[${i}]: `, changes) : call,
    );
    if (changes.length > before) mended = { ...mended, tool_calls: calls };
  }
  const known = mended["role"];
  if (typeof known !== "string" || !Object.hasOwn(MESSAGE_KEYS, known)) return mended;
  return withoutExtra(mended, MESSAGE_KEYS[known as keyof typeof MESSAGE_KEYS], place, changes);
}

function mendCall(call: JsonObject, place: string, changes: string[]): JsonObject {
  let mended = call;
  if (call["type"] === undefined) {
    mended = { ...mended, type: "function" };
    changes.push(`${place}added type "function"`);
  }
  const called = call["function"];
  if (isObject(called) && isObject(called["arguments"])) {
    mended = { ...mended, function: { ...called, arguments: JSON.stringify(called["arguments"]) } };
    changes.push(`${place}wrote the arguments as the text of a JSON object`);
  }
  return mended;
}

export function withoutExtra(
  value: JsonObject,
  allowed: readonly string[],
  place: string,
  changes: string[],
): JsonObject {
  const extra = Object.keys(value).filter((key) => !allowed.includes(key));
  for (const key of extra) changes.push(`${place}removed ${JSON.stringify(key.slice(0, 40))}`);
  return Object.fromEntries(Object.entries(value).filter(([key]) => allowed.includes(key)));
}
