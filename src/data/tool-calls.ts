// How tool calls stand in a conversation's text: the form for models whose chat template has no place for tools, and reading
// calls out of an answer. It knows no HTTP and no tokens.
import type { ChatMessage, ToolCall, ToolDefinition } from "./chat-message.ts";

/** The texts around a call: begin, name, middle, arguments (a JSON object), end. */
export interface ToolCallShape {
  /** The first part of `begin`: an answer in which it occurs calls a tool. */
  trigger: string;
  begin: string;
  middle: string;
  end: string;
}

/** The shape in which models without tools of their own are taught to call them. */
export const PLAIN_SHAPE: ToolCallShape = {
  trigger: "<tool_call>",
  begin: '<tool_call>\n{"name": "',
  middle: '", "arguments": ',
  end: "}\n</tool_call>",
};

/**
 * A conversation with tools as one of system, user and assistant texts, for templates without tools: definitions at the end
 * of the system message, calls as the assistant's text, results as the user's. Training and chat see the same.
 */
export function withoutTools(
  messages: readonly ChatMessage[],
  tools: readonly ToolDefinition[],
): ChatMessage[] {
  const plain = messages.map((message): ChatMessage => {
    const { role, content, tool_calls: calls = [] } = message;
    if (role === "tool")
      return { role: "user", content: `<tool_response>\n${content ?? ""}\n</tool_response>` };
    if (calls.length === 0) return message;
    const { tool_calls: _, ...rest } = message;
    const lines = [...(content === null || content === "" ? [] : [content]), ...calls.map(callText)];
    return { ...rest, content: lines.join("\n") };
  });
  if (tools.length === 0) return plain;
  const [first] = plain;
  const isSystem = first?.role === "system" || first?.role === "developer";
  const head: ChatMessage = isSystem
    ? { ...first, content: `${first.content ?? ""}\n\n${toolsText(tools)}` }
    : { role: "system", content: toolsText(tools) };
  return [head, ...plain.slice(isSystem ? 1 : 0)];
}

function callText({ function: { name, arguments: args } }: ToolCall): string {
  const { begin, middle, end } = PLAIN_SHAPE;
  return begin + name + middle + args + end;
}

function toolsText(tools: readonly ToolDefinition[]): string {
  const lines = tools.map(({ type, function: { name, description, parameters } }) =>
    JSON.stringify({ type, function: { name, description, parameters } }),
  );
  const { begin, middle, end } = PLAIN_SHAPE;
  return [
    "These functions can be called:",
    "<tools>",
    ...lines,
    "</tools>",
    "To call one, answer with its name and its arguments as JSON:",
    `${begin}NAME${middle}ARGUMENTS${end}`,
  ].join("\n");
}

export interface CalledFunction {
  name: string;
  /** JSON text of an object; the beginning of one where the answer was cut off within it. */
  arguments: string;
}

/** Splits an answer, piece by piece, into text and calls. */
export interface ToolCallReader {
  push(text: string): { text: string; calls: CalledFunction[] };
  /** Whether a call has begun, or what may be one. */
  readonly isOpen: boolean;
  /**
   * What was held back when the answer ended. A call that was cut off is one as soon as its name is known; before, it is nothing.
   * So is what may be the first characters of one, where the answer was cut off and is no text otherwise.
   */
  flush(options: { isCutOff: boolean }): { text: string; calls: CalledFunction[] };
}

/** `isForced`: the answer is nothing but calls. Every trigger is the beginning of a call: answers are held to that. */
export function createToolCallReader(
  shape: ToolCallShape,
  names: ReadonlySet<string>,
  isForced: boolean,
): ToolCallReader {
  let held = "";
  let hasCalls = false;
  let hasText = false;
  const read = (isEnd: boolean, isCutOff = false): { text: string; calls: CalledFunction[] } => {
    const calls: CalledFunction[] = [];
    let text = "";
    for (;;) {
      const at = held.indexOf(shape.trigger);
      if (at === -1) {
        const keep = overlap(held, shape.trigger);
        const head = held.slice(0, held.length - keep);
        const isCallsAlone = isForced || hasCalls || calls.length > 0;
        const isNoText = isCallsAlone || (isCutOff && !hasText && text + head === "");
        text += head;
        held = held.slice(held.length - keep);
        if (isEnd && !isNoText) text += held;
        break;
      }
      text += held.slice(0, at);
      held = held.slice(at);
      const call = readCall(held, shape, names);
      if (call?.isFinished === false && !isEnd) break;
      if (call?.called === null) {
        held = "";
      } else if (call === null) {
        text += shape.trigger;
        held = held.slice(shape.trigger.length);
      } else {
        calls.push(call.called);
        held = held.slice(call.length);
      }
    }
    // White space around calls is the shape's, not the answer's.
    if (calls.length > 0 || hasCalls) text = text.trim() === "" ? "" : text;
    hasCalls ||= calls.length > 0;
    hasText ||= text !== "";
    return { text, calls };
  };
  return {
    push(text) {
      held += text;
      return read(false);
    },
    get isOpen() {
      return held !== "";
    },
    flush: ({ isCutOff }) => read(true, isCutOff),
  };
}

/** The call that a text begins with; null when it is none. `called` is null while its name is not known. */
function readCall(
  text: string,
  { begin, middle, end }: ToolCallShape,
  names: ReadonlySet<string>,
): { called: CalledFunction | null; length: number; isFinished: boolean } | null {
  const unfinished = (called: CalledFunction | null) => ({ called, length: text.length, isFinished: false });
  if (text.length < begin.length) return begin.startsWith(text) ? unfinished(null) : null;
  if (!text.startsWith(begin)) return null;
  const rest = text.slice(begin.length);
  const nameEnd = rest.indexOf(middle);
  if (nameEnd === -1) {
    const longest = Math.max(0, ...[...names].map((name) => name.length));
    return rest.length <= longest + middle.length ? unfinished(null) : null;
  }
  const name = rest.slice(0, nameEnd);
  if (!names.has(name)) return null;
  const start = begin.length + nameEnd + middle.length;
  const length = objectLength(text.slice(start));
  if (length === null) return unfinished({ name, arguments: text.slice(start) });
  const after = text.slice(start + length);
  const args = text.slice(start, start + length);
  if (!after.startsWith(end)) return end.startsWith(after) ? unfinished({ name, arguments: args }) : null;
  try {
    JSON.parse(args);
  } catch {
    return null;
  }
  return { called: { name, arguments: args }, length: start + length + end.length, isFinished: true };
}

/** Characters up to the end of the JSON object a text begins with; null when it is not closed. */
function objectLength(text: string): number | null {
  let depth = 0;
  let isText = false;
  for (let i = 0; i < text.length; i++) {
    const character = text[i];
    if (isText) {
      if (character === "\\") i += 1;
      else if (character === '"') isText = false;
    } else if (character === '"') isText = true;
    else if (character === "{" || character === "[") depth += 1;
    else if (character === "}" || character === "]") {
      depth -= 1;
      if (depth === 0) return i + 1;
    }
  }
  return null;
}

/** Length of the longest end of `text` that begins `start`. */
function overlap(text: string, start: string): number {
  for (let length = Math.min(text.length, start.length - 1); length > 0; length--) {
    if (start.startsWith(text.slice(text.length - length))) return length;
  }
  return 0;
}
