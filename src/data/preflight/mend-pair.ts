// The same of a line of preference data: pairs as other tools write them become OpenAI's, and what their messages have wrong is corrected
// as in chats.
import { isObject } from "../fault.ts";
import type { JsonObject } from "../fault.ts";
import { INPUT_KEYS, OUTPUT_KEYS } from "../preference-example.ts";
import { fromTurn, mendMessage, mendMessages, withoutExtra } from "./mend-chat.ts";

/** What has one right answer in a preference example, corrected; each correction is added to `changes`. */
export function mendPair(value: unknown, changes: string[]): unknown {
  if (!isObject(value)) return value;
  const pair = withoutExtra(toPair(value, changes), ["input", ...OUTPUT_KEYS.flat()], "", changes);
  let mended: JsonObject = pair;
  const input = pair["input"];
  if (isObject(input)) {
    const kept = withoutExtra(input, INPUT_KEYS, "input: ", changes);
    const messages = kept["messages"];
    mended = {
      ...mended,
      input: Array.isArray(messages) ? { ...kept, messages: mendPrompt(messages, changes) } : kept,
    };
  }
  for (const name of OUTPUT_KEYS.flat()) {
    if (mended[name] !== undefined) mended = { ...mended, [name]: mendOutput(name, mended[name], changes) };
  }
  return mended;
}

/** Nothing of the prompt is trained on, so a weight of 1 on an answer in it says nothing that can be meant. */
function mendPrompt(messages: readonly unknown[], changes: string[]): unknown[] {
  return mendMessages(messages, "input ", changes).map((message, i) => {
    if (!isObject(message) || message["role"] !== "assistant" || message["weight"] !== 1) return message;
    const { weight: _weight, ...rest } = message;
    changes.push(`input message ${i + 1}: removed weight 1, since only the outputs are trained on`);
    return rest;
  });
}

/** A list of one assistant message, from a text, a message by itself or one without role. */
function mendOutput(name: string, value: unknown, changes: string[]): unknown {
  let list = value;
  if (typeof list === "string") {
    changes.push(`${name}: wrote the text as an assistant message`);
    list = [{ role: "assistant", content: list }];
  } else if (isObject(list)) {
    changes.push(`${name}: wrote the message as a list of one`);
    list = [list];
  }
  if (!Array.isArray(list) || list.length !== 1 || !isObject(list[0])) return list;
  let [message] = list as [JsonObject];
  if (message["role"] === undefined) {
    changes.push(`${name}: added role "assistant"`);
    message = { role: "assistant", ...message };
  }
  return [mendMessage(message, `${name}: `, changes)];
}

/** {"prompt", "chosen", "rejected"} of TRL, and {"conversations", "chosen", "rejected"} with turns of "from" and "value". */
function toPair(value: JsonObject, changes: string[]): JsonObject {
  const { prompt, conversations, chosen, rejected, ...rest } = value;
  if ("input" in value || chosen === undefined || rejected === undefined) return value;
  const turns = prompt ?? conversations;
  const messages =
    typeof turns === "string"
      ? [{ role: "user", content: turns }]
      : Array.isArray(turns) && turns.every(isObject)
        ? turns.map(toMessage)
        : null;
  if (messages === null) return value;
  const from = prompt === undefined ? "conversations" : "prompt";
  changes.push(`wrote ${from}, chosen and rejected as input, preferred_output and non_preferred_output`);
  return {
    ...rest,
    input: { messages },
    preferred_output: toOutput(chosen),
    non_preferred_output: toOutput(rejected),
  };
}

const toMessage = (turn: JsonObject): JsonObject => ("from" in turn ? fromTurn(turn) : turn);

function toOutput(answer: unknown): unknown {
  if (typeof answer === "string") return [{ role: "assistant", content: answer }];
  if (isObject(answer)) {
    // Without "from" a value alone is an answer as well.
    return ["value" in answer ? fromTurn({ from: "assistant", ...answer }) : answer];
  }
  return Array.isArray(answer)
    ? answer.map((turn: unknown) => (isObject(turn) ? toMessage(turn) : turn))
    : answer;
}
