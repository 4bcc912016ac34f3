// One line of supervised chat data: from parsed JSON to messages and tools, or the faults a person must mend. The format
// is OpenAI's; deprecated function calls become tool calls. It knows no files and no tokens.
import { ROLES } from "./chat-message.ts";
import type { ChatMessage, Role, ToolCall, ToolDefinition } from "./chat-message.ts";
import { describe, isObject, MAX_KEPT_FAULTS, missingMember } from "./fault.ts";
import type { Fault, FaultDetails, FaultKind, JsonObject } from "./fault.ts";
import { parseJson } from "./json-text.ts";

export interface TrainingExample {
  messages: ChatMessage[];
  tools?: ToolDefinition[];
  parallelToolCalls?: boolean;
}

/** Other formats of training data, told apart so that a whole file in one gets one plain answer. */
export type ForeignFormat = "chat" | "preference" | "completion";

/** What a line that is no supervised chat looks like instead. */
export function foreignFormat(value: unknown): ForeignFormat | null {
  if (!isObject(value) || "messages" in value) return null;
  if (["preferred_output", "non_preferred_output", "preferred_completion"].some((key) => key in value))
    return "preference";
  return "prompt" in value && "completion" in value ? "completion" : null;
}

/** Reads one example, up to MAX_KEPT_FAULTS faults; either faults is empty or example is null. */
export function readTrainingExample(value: unknown): { example: TrainingExample | null; faults: Fault[] } {
  const reader = new ExampleReader();
  const example = reader.read(value);
  return { example: reader.faults.length === 0 ? example : null, faults: reader.faults };
}

export const TOP_LEVEL_KEYS = ["messages", "tools", "parallel_tool_calls", "functions"];
export const MESSAGE_KEYS: Record<Role | "function", readonly string[]> = {
  system: ["role", "content", "name"],
  developer: ["role", "content", "name"],
  user: ["role", "content", "name"],
  assistant: ["role", "content", "name", "weight", "tool_calls", "function_call", "refusal"],
  tool: ["role", "content", "name", "tool_call_id"],
  function: ["role", "content", "name"],
};
/** OpenAI's limit for tools and functions. */
const MAX_TOOLS = 128;

class ExampleReader {
  readonly faults: Fault[] = [];
  #message: number | null = null;
  /** Ids of tool calls made so far in the conversation. */
  readonly #callIds = new Set<string>();
  /** The last deprecated function call, which a "function" message answers. */
  #functionCall: ToolCall | null = null;
  #functionCalls = 0;

  read(value: unknown): TrainingExample | null {
    if (!isObject(value)) return this.#expected("is", value, `an object with "messages"`, { kind: "shape" });
    this.#refuseExtra(value, TOP_LEVEL_KEYS);
    const tools = this.#tools(value);
    const parallel = present(value["parallel_tool_calls"]);
    if (parallel !== undefined && typeof parallel !== "boolean") {
      this.#expected("has parallel_tool_calls", parallel, "true or false");
    }
    const messages = this.#messages(value["messages"]);
    return {
      messages,
      ...(tools === undefined ? {} : { tools }),
      ...(typeof parallel === "boolean" ? { parallelToolCalls: parallel } : {}),
    };
  }

  #messages(value: unknown): ChatMessage[] {
    if (value === undefined) {
      this.#missing("messages", "a list of messages");
      return [];
    }
    if (!Array.isArray(value) || value.length === 0) {
      this.#expected("has messages", value, "a list of at least one message");
      return [];
    }
    const messages = this.#each(value, (entry, index) => {
      this.#message = index + 1;
      return this.#readMessage(entry);
    });
    this.#message = null;
    // Only where every message could be read: else the missing one may well be the assistant's.
    if (messages.length === value.length) {
      const assistants = messages.filter((message) => message.role === "assistant");
      if (assistants.length === 0)
        this.#fault("content", "has no assistant message, so there is nothing to learn from", {
          found: "no assistant message",
          expected: "at least one assistant message",
          fix: "add the answer the model shall give, as a message with role assistant",
        });
      else if (assistants.every((message) => message.weight === 0)) {
        this.#fault("content", "has weight 0 on every assistant message, so there is nothing to learn from", {
          found: "weight 0 on every assistant message",
          expected: "an assistant message that counts",
          fix: "take the weight off the answers to learn from",
        });
      }
    }
    return messages;
  }

  #readMessage(value: unknown): ChatMessage | null {
    if (!isObject(value)) return this.#expected("is", value, "an object with role and content");
    const role = value["role"];
    if (role === undefined)
      return this.#missing("role", `one of ${ROLES.join(", ")}`, ` (one of ${ROLES.join(", ")})`);
    if (!isRole(role) && role !== "function") {
      return this.#expected("has role", role, `one of ${ROLES.join(", ")}`);
    }
    this.#refuseExtra(value, MESSAGE_KEYS[role]);
    const name = this.#text(present(value["name"]), "name");
    const named = name === undefined ? {} : { name };
    switch (role) {
      case "assistant":
        return { role, ...named, ...this.#assistant(value) };
      case "tool":
        return {
          role,
          ...named,
          content: this.#content(value),
          tool_call_id: this.#toolCallId(value["tool_call_id"]),
        };
      case "function":
        return { role: "tool", content: this.#content(value), tool_call_id: this.#answeredFunction(name) };
      case "system":
      case "developer":
      case "user":
        return { role, ...named, content: this.#content(value) };
    }
  }

  #assistant(value: JsonObject): Pick<ChatMessage, "content" | "weight" | "tool_calls"> {
    if (present(value["refusal"]) !== undefined) {
      this.#fault("content", "has a refusal, which is not supported; write the refusal's text as content", {
        found: "a refusal",
        expected: "content",
        fix: "write the refusal's text as content",
      });
    }
    const weight = present(value["weight"]);
    if (weight !== undefined && weight !== 0 && weight !== 1) {
      this.#expected("has weight", weight, "0 or 1");
    }
    const calls = presentList(value["tool_calls"]);
    const legacy = present(value["function_call"]);
    const toolCalls = this.#toolCalls(calls, legacy);
    const isContentFree = (calls ?? legacy) !== undefined && present(value["content"]) === undefined;
    return {
      content: isContentFree ? null : this.#content(value),
      ...(weight === 0 || weight === 1 ? { weight } : {}),
      ...(toolCalls === undefined ? {} : { tool_calls: toolCalls }),
    };
  }

  #content(value: JsonObject): string {
    const content = value["content"];
    if (content === undefined) this.#missing("content", "a text or a list of text parts");
    else if (typeof content === "string") return this.#wellFormed(content, "content");
    else if (Array.isArray(content) && content.length > 0) {
      // Text parts are one text cut up by the client, so they are joined without anything between.
      return this.#each(content, (part, index) => this.#textPart(part, `content[${index}]`)).join("");
    } else this.#expected("has content", content, "a text or a list of text parts");
    return "";
  }

  #textPart(part: unknown, where: string): string {
    const type = isObject(part) ? part["type"] : undefined;
    if (isObject(part) && type === "text" && typeof part["text"] === "string") {
      this.#refuseExtra(part, ["type", "text"], where);
      return this.#wellFormed(part["text"], where);
    }
    if (typeof type === "string" && type !== "text") {
      this.#fault(
        "content",
        `has a part of type ${describe(type)} at ${where}; only text can be trained on`,
        {
          found: `a part of type ${describe(type)} at ${where}`,
          expected: "parts of type text",
          fix: "leave the part out, or say in words what it shows",
        },
      );
    } else this.#expected("has", part, `{"type": "text", "text": …}`, { after: ` at ${where}` });
    return "";
  }

  #toolCalls(calls: unknown, legacy: unknown): ToolCall[] | undefined {
    if (calls !== undefined && legacy !== undefined) {
      this.#fault("content", "has both tool_calls and function_call (deprecated); keep tool_calls", {
        found: "both tool_calls and function_call",
        expected: "one of them",
        fix: "keep tool_calls",
      });
      return undefined;
    }
    if (legacy !== undefined) {
      const call: ToolCall = {
        id: `call_function_${++this.#functionCalls}`,
        type: "function",
        function: this.#calledFunction(legacy, "function_call"),
      };
      this.#functionCall = call;
      return [call];
    }
    if (calls === undefined) return undefined;
    if (!Array.isArray(calls)) {
      this.#expected("has tool_calls", calls, "a list of calls");
      return undefined;
    }
    return this.#each(calls, (call, index) => this.#toolCall(call, `tool_calls[${index}]`));
  }

  #toolCall(members: unknown, where: string): ToolCall | null {
    if (!isObject(members)) {
      return this.#expected("has", members, "an object", { after: ` at ${where}` });
    }
    this.#refuseExtra(members, ["id", "type", "function"], where);
    const id = members["id"];
    if (typeof id !== "string" || id === "") {
      this.#expected(`has ${where}.id`, id, "a text that a tool message can name");
    } else this.#callIds.add(id);
    if (members["type"] !== "function") {
      this.#expected(`has ${where}.type`, members["type"], `"function"`);
    }
    return {
      id: String(id),
      type: "function",
      function: this.#calledFunction(members["function"], `${where}.function`),
    };
  }

  #calledFunction(value: unknown, where: string): ToolCall["function"] {
    const members = isObject(value) ? value : {};
    this.#refuseExtra(members, ["name", "arguments"], where);
    const { name, arguments: args } = members;
    if (typeof name !== "string" || name === "") {
      this.#expected(`has ${where}.name`, name, "the name of a function");
    }
    if (typeof args !== "string") {
      this.#expected(`has ${where}.arguments`, args, "a JSON object written as a text");
      return { name: String(name), arguments: "{}" };
    }
    const parsed = parseJson(args);
    if (!parsed.ok) {
      this.#fault("content", `has ${where}.arguments, whose text ${parsed.fault}`, {
        found: `${where}.arguments whose text ${parsed.fault}`,
        expected: "the text of a JSON object",
        fix: "write the arguments with a JSON writer",
      });
    } else if (!isObject(parsed.value)) {
      this.#expected(`has ${where}.arguments with`, parsed.value, "a JSON object");
    }
    return { name: String(name), arguments: args };
  }

  #toolCallId(id: unknown): string {
    if (id === undefined)
      this.#missing("tool_call_id", "the id of a tool call in an earlier assistant message");
    else if (typeof id !== "string" || !this.#callIds.has(id)) {
      this.#expected("has tool_call_id", id, "the id of a tool call in an earlier assistant message");
    }
    return String(id);
  }

  #answeredFunction(name: string | undefined): string {
    const call = this.#functionCall;
    if (call === null || call.function.name !== name) {
      this.#fault(
        "content",
        `answers the function ${describe(name)}, which the assistant did not call before (role "function" is deprecated; use "tool")`,
        {
          found: `an answer of the function ${describe(name)}`,
          expected: "an answer to a function the assistant called before",
          fix: "put the call before it; better, write both with tool_calls and role tool",
        },
      );
      return "";
    }
    return call.id;
  }

  #tools(value: JsonObject): ToolDefinition[] | undefined {
    const tools = present(value["tools"]);
    const functions = present(value["functions"]);
    if (tools !== undefined && functions !== undefined) {
      this.#fault("content", "has both tools and functions (deprecated); keep tools", {
        found: "both tools and functions",
        expected: "one of them",
        fix: "keep tools",
      });
      return undefined;
    }
    const key = functions === undefined ? "tools" : "functions";
    const list = functions ?? tools;
    if (list === undefined) return undefined;
    if (!Array.isArray(list) || list.length < 1 || list.length > MAX_TOOLS) {
      this.#expected(`has ${key}`, list, `a list of 1 to ${MAX_TOOLS}`);
      return undefined;
    }
    return list.map((entry: unknown, index) => {
      const where = `${key}[${index}]`;
      if (key === "functions") return { type: "function", function: this.#definition(entry, where) };
      const members = isObject(entry) ? entry : {};
      this.#refuseExtra(members, ["type", "function"], where);
      if (members["type"] !== "function") {
        this.#expected(`has ${where}.type`, members["type"], `"function"`);
      }
      return { type: "function", function: this.#definition(members["function"], `${where}.function`) };
    });
  }

  #definition(value: unknown, where: string): ToolDefinition["function"] {
    const members = isObject(value) ? value : {};
    this.#refuseExtra(members, ["name", "description", "parameters", "strict"], where);
    const name = members["name"];
    if (typeof name !== "string" || name === "") {
      this.#expected(`has ${where}.name`, name, "the name of a function");
    }
    const description = this.#text(present(members["description"]), `${where}.description`);
    const parameters = present(members["parameters"]);
    if (parameters !== undefined && !isObject(parameters)) {
      this.#expected(`has ${where}.parameters`, parameters, "a JSON schema object");
    }
    const strict = present(members["strict"]);
    if (strict !== undefined && typeof strict !== "boolean") {
      this.#expected(`has ${where}.strict`, strict, "true or false");
    }
    return {
      name: String(name),
      ...(description === undefined ? {} : { description }),
      ...(isObject(parameters) ? { parameters } : {}),
      ...(typeof strict === "boolean" ? { strict } : {}),
    };
  }

  #text(value: unknown, where: string): string | undefined {
    if (value === undefined || typeof value === "string") return value;
    this.#expected(`has ${where}`, value, "a text");
    return undefined;
  }

  /** Half of a surrogate pair is no character; encoding it would silently train on U+FFFD. */
  #wellFormed(text: string, where: string): string {
    if (/\p{Surrogate}/u.test(text)) {
      this.#fault(
        "content",
        `has half a surrogate pair (such as \\ud83d alone) in ${where}, expected whole characters`,
        {
          found: `half a surrogate pair in ${where}`,
          expected: "whole characters",
          fix: "write the text again from its source; it was cut in the middle of a character",
        },
      );
    }
    return text;
  }

  #refuseExtra(value: JsonObject, allowed: readonly string[], where?: string): void {
    for (const key of Object.keys(value)) {
      if (allowed.includes(key)) continue;
      if (this.#isFull()) return;
      const isWeight = key === "weight" && this.#message !== null;
      this.#fault(
        "shape",
        `contains an extra ${describe(key)}${where === undefined ? "" : ` in ${where}`}${isWeight ? " (weight belongs on assistant messages only)" : ""}`,
        {
          found: `an extra ${describe(key)}${where === undefined ? "" : ` in ${where}`}`,
          expected: `no other members than ${allowed.join(", ")}`,
          fix: `leave ${describe(key)} out`,
        },
      );
    }
  }

  /** What is read of each entry, until there are faults enough. */
  #each<T>(list: readonly unknown[], read: (entry: unknown, index: number) => T | null): T[] {
    const found: T[] = [];
    for (const [index, entry] of list.entries()) {
      if (this.#isFull()) break;
      const one = read(entry, index);
      if (one !== null) found.push(one);
    }
    return found;
  }

  #isFull(): boolean {
    return this.faults.length >= MAX_KEPT_FAULTS;
  }

  #fault(kind: FaultKind, text: string, details: FaultDetails = {}): null {
    if (!this.#isFull()) this.faults.push({ kind, message: this.#message, text, ...details });
    return null;
  }

  #missing(key: string, expected: string, suffix = ""): null {
    return this.#fault("shape", `is missing key "${key}"${suffix}`, missingMember(key, expected));
  }

  /** "has content 7, expected a text": what stands at a place, and what may stand there. */
  #expected(
    place: string,
    value: unknown,
    expected: string,
    { kind = "content", after = "" }: { kind?: FaultKind; after?: string } = {},
  ): null {
    const found = describe(value);
    return this.#fault(kind, `${place} ${found}${after}, expected ${expected}`, {
      found: `${place.replace(/^(has|is) ?/, "")} ${found}${after}`.trim(),
      expected,
      fix: `write ${expected}`,
    });
  }
}

/** Optional members may be null, as clients that dump whole objects write them. */
function present(value: unknown): unknown {
  return value === null ? undefined : value;
}

/** Likewise an empty list of tool calls. */
function presentList(value: unknown): unknown {
  return Array.isArray(value) && value.length === 0 ? undefined : present(value);
}

function isRole(value: unknown): value is Role {
  return (ROLES as readonly unknown[]).includes(value);
}
