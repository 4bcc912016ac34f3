// One line of preference data: a prompt and two answers to it, or the faults a person must mend. The format is OpenAI's; messages
// and tools are read as those of supervised data are (training-example.ts). It knows no files and no tokens.
import type { ChatMessage, ToolDefinition } from "./chat-message.ts";
import { describe, isObject, MAX_KEPT_FAULTS, missingMember } from "./fault.ts";
import type { Fault, FaultKind, JsonObject } from "./fault.ts";
import { readTrainingExample } from "./training-example.ts";
import type { ForeignFormat } from "./training-example.ts";

export interface PreferenceExample {
  /** None of them is trained on: each assistant message has weight 0. */
  prompt: ChatMessage[];
  tools?: ToolDefinition[];
  parallelToolCalls?: boolean;
  preferred: ChatMessage;
  rejected: ChatMessage;
}

export const INPUT_KEYS = ["messages", "tools", "parallel_tool_calls"];
/** The guide's names; those of OpenAI's 2025 specification. */
export const OUTPUT_KEYS = [
  ["preferred_output", "preferred_completion"],
  ["non_preferred_output", "non_preferred_completion"],
] as const;

/** What a line that is no preference example looks like instead. */
export function foreignToPreference(value: unknown): ForeignFormat | null {
  if (!isObject(value) || "input" in value) return null;
  if ("messages" in value) return "chat";
  return "prompt" in value && "completion" in value ? "completion" : null;
}

/** Reads one example; either faults is empty or example is null. */
export function readPreferenceExample(value: unknown): {
  example: PreferenceExample | null;
  faults: Fault[];
} {
  const reader = new PreferenceReader();
  const example = reader.read(value);
  return { example: reader.faults.length === 0 ? example : null, faults: reader.faults };
}

class PreferenceReader {
  readonly faults: Fault[] = [];

  read(value: unknown): PreferenceExample | null {
    if (!isObject(value)) {
      return this.#fault("shape", `is ${describe(value)}, expected an object with "input" and two outputs`);
    }
    this.#refuseExtra(value, ["input", ...OUTPUT_KEYS.flat()], null);
    const input = this.#input(value["input"]);
    const [preferred, rejected] = OUTPUT_KEYS.map((names) => this.#output(value, names));
    if (input === null || preferred === null || rejected === null) return null;
    const first = this.#answered(input, preferred as Output, true);
    const second = this.#answered(input, rejected as Output, false);
    if (first === null || second === null) return null;
    const answers = [first, second].map(({ messages }) => messages.at(-1) as ChatMessage);
    const [best, other] = answers as [ChatMessage, ChatMessage];
    if (JSON.stringify(best) === JSON.stringify(other)) {
      return this.#fault("content", "has the same text in both outputs, so there is nothing to prefer");
    }
    const { messages, ...tools } = first;
    return {
      ...tools,
      prompt: messages
        .slice(0, -1)
        .map((message) => (message.role === "assistant" ? { ...message, weight: 0 } : message)),
      preferred: best,
      rejected: other,
    };
  }

  #input(value: unknown): JsonObject | null {
    if (value === undefined) return this.#missing("input", 'an object with "messages"');
    if (!isObject(value)) {
      return this.#fault("content", `has input ${describe(value)}, expected an object with "messages"`);
    }
    this.#refuseExtra(value, INPUT_KEYS, "input");
    const { messages } = value;
    if (messages === undefined) return this.#missing("messages", "a list of messages", "input");
    if (!Array.isArray(messages) || messages.length === 0) {
      return this.#fault(
        "content",
        `has input.messages ${describe(messages)}, expected at least one message`,
      );
    }
    for (const [index, message] of messages.entries()) {
      if (!isObject(message) || message["role"] !== "assistant" || message["weight"] !== 1) continue;
      if (this.faults.length >= MAX_KEPT_FAULTS) break;
      this.#fault("content", "has weight 1 in input; only the outputs are trained on", {
        message: index + 1,
      });
    }
    return value;
  }

  /** The one message of an output. */
  #output(value: JsonObject, names: readonly [string, string]): Output | null {
    const given = names.filter((name) => value[name] !== undefined);
    const [name] = given;
    if (name === undefined) return this.#missing(names[0], "a list of one assistant message");
    if (given.length > 1) {
      return this.#fault("content", `has both ${names.join(" and ")}; keep ${names[0]}`);
    }
    const list = value[name];
    if (!Array.isArray(list) || list.length !== 1) {
      return this.#fault(
        "content",
        `has ${name} ${describe(list)}, expected a list of one assistant message; the turns before it belong to input`,
      );
    }
    const message = list[0] as unknown;
    const role = isObject(message) ? message["role"] : undefined;
    if (isObject(message) && role !== undefined && role !== "assistant") {
      return this.#fault("content", `has role ${describe(role)}, expected "assistant"`, { part: name });
    }
    if (isObject(message) && message["weight"] === 0) {
      return this.#fault("content", "has weight 0, but the outputs are what is trained on", { part: name });
    }
    return { name, message };
  }

  /** The conversation with this answer, read as supervised data is. What is wrong with the input is told once. */
  #answered(input: JsonObject, output: Output, withInput: boolean) {
    const prompt = input["messages"] as unknown[];
    const { tools, ...rest } = pick(input, INPUT_KEYS);
    // The example of OpenAI's guide has an empty list of tools.
    const withTools = Array.isArray(tools) && tools.length === 0 ? {} : { tools };
    const chat = { ...rest, ...withTools, messages: [...prompt, output.message] };
    const { example, faults } = readTrainingExample(chat);
    for (const fault of faults) {
      if (this.faults.length >= MAX_KEPT_FAULTS) break;
      const isOutput = fault.message === prompt.length + 1;
      if (isOutput) this.faults.push({ ...fault, message: null, part: output.name });
      else if (withInput) this.faults.push(fault);
    }
    return example;
  }

  #refuseExtra(value: JsonObject, allowed: readonly string[], part: string | null): void {
    for (const key of Object.keys(value)) {
      if (allowed.includes(key)) continue;
      if (this.faults.length >= MAX_KEPT_FAULTS) return;
      const where = part === null ? "" : ` in ${part}`;
      this.#fault("shape", `contains an extra ${describe(key)}${where}`, {
        fix: `leave ${describe(key)} out`,
      });
    }
  }

  #missing(key: string, expected: string, part?: string): null {
    return this.#fault("shape", `is missing key "${key}"`, {
      ...(part === undefined ? {} : { part }),
      ...missingMember(key, expected),
    });
  }

  #fault(kind: FaultKind, text: string, more: Partial<Omit<Fault, "kind" | "text">> = {}): null {
    if (this.faults.length < MAX_KEPT_FAULTS) this.faults.push({ kind, message: null, text, ...more });
    return null;
  }
}

interface Output {
  /** The member it stands in. */
  name: string;
  message: unknown;
}

function pick(value: JsonObject, keys: readonly string[]): JsonObject {
  return Object.fromEntries(Object.entries(value).filter(([key]) => keys.includes(key)));
}
