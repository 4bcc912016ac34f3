// One example as the rules of the check look at it: what is asked, what is answered, and the text of both.
import type { ChatMessage } from "../chat-message.ts";
import type { DatasetParam, Example } from "../dataset.ts";

export interface Row {
  file: DatasetParam;
  line: number;
  messages: readonly ChatMessage[];
  /** What a system or developer message says; null without one. */
  system: string | null;
  /** All the last answer answers, as text that is equal for equal questions. */
  question: string;
  /** What users wrote. */
  userText: string;
  /** The last answer that counts; "" where it only calls tools. */
  answer: string;
  callsTools: boolean;
}

/** A rule sees every row once, in file order, and then says what it found. */
export interface Rule<Found> {
  add(row: Row): void;
  findings(): Found[];
}

export function rowOf(file: DatasetParam, example: Example): Row {
  const { line, messages, tools } = example;
  const last = messages.findLastIndex(({ role, weight }) => role === "assistant" && weight !== 0);
  const answer = messages[last];
  const before = messages.slice(0, last);
  const calls = answer?.tool_calls ?? [];
  return {
    file,
    line,
    messages,
    system: messages.find(({ role }) => role === "system" || role === "developer")?.content ?? null,
    question: JSON.stringify([
      before.map(({ role, content, tool_calls }) => [role, tidy(content ?? ""), tool_calls ?? null]),
      tools ?? null,
    ]),
    userText: messages
      .filter(({ role }) => role === "user")
      .map(({ content }) => content ?? "")
      .join("\n"),
    answer:
      calls.length > 0
        ? JSON.stringify(calls.map(({ function: called }) => [called.name, called.arguments]))
        : (answer?.content ?? ""),
    callsTools: calls.length > 0,
  };
}

/** Equal for texts that differ in spaces and letter case only. */
export function tidy(text: string): string {
  return singleSpaced(text.toLowerCase());
}

/** A single space, nearly all there is, is left alone: replacing each takes most of the time. */
function singleSpaced(text: string): string {
  return text.replaceAll(/\s{2,}|[^\S ]/g, " ").trim();
}

/** Enough of a text to recognise it by, on one line. */
export function excerpt(text: string, length = 60): string {
  const line = singleSpaced(text);
  const characters = [...line];
  return characters.length <= length ? line : `${characters.slice(0, length - 1).join("")}…`;
}
