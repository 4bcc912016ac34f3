// Mending a data file: what has one right answer is corrected and said, everything else is copied as it is and said too.
// No line is left out but blank ones.
import { isUtf8 } from "node:buffer";
import { open, readFile, rename, rm, stat } from "node:fs/promises";
import { DatasetError } from "../../errors.ts";
import { fileLines } from "../file-lines.ts";
import { parseJson } from "../json-text.ts";
import { MAX_LINE_BYTES } from "../dataset.ts";
import { MESSAGE_KEYS, readTrainingExample, TOP_LEVEL_KEYS } from "../training-example.ts";
import { MAX_FAULTS } from "./report.ts";

export interface MendedFile {
  lines: number;
  /** Blank lines that were left out. */
  blankLines: number;
  changedLines: number;
  /** By the line of the file that was read; at most MAX_FAULTS. */
  changes: { line: number; changes: string[] }[];
  /** Lines of the copy that still need a person. */
  unmendedLines: number;
}

/** A file that is one JSON list is read whole; a larger one is no slip but another format. */
const MAX_LIST_BYTES = 64 * 1024 * 1024;

/** Writes the corrected copy, whole or not at all. Throws DatasetError for a line too long to be copied, Unavailable. */
export async function mendFile(path: string, target: string, signal?: AbortSignal): Promise<MendedFile> {
  const mended: MendedFile = { lines: 0, blankLines: 0, changedLines: 0, changes: [], unmendedLines: 0 };
  const temporary = `${target}.part`;
  const output = await open(temporary, "w");
  const write = async (line: number, bytes: Buffer, already: string[]) => {
    const { text, changes, isGood } = mendLine(bytes);
    mended.lines += 1;
    if (!isGood) mended.unmendedLines += 1;
    const all = [...already, ...changes];
    if (all.length > 0) {
      mended.changedLines += 1;
      if (mended.changes.length < MAX_FAULTS) mended.changes.push({ line, changes: all });
    }
    await output.appendFile(text ?? bytes);
    await output.appendFile("\n");
  };
  try {
    const list = await readList(path);
    if (list !== null) {
      for (const [i, entry] of list.entries())
        await write(i + 1, Buffer.from(JSON.stringify(entry)), [
          "was an entry of a list, now a line of its own",
        ]);
    } else {
      for await (const { number, bytes } of fileLines(path, { maxLineBytes: MAX_LINE_BYTES, signal })) {
        if (bytes === null) {
          throw new DatasetError(
            `Line ${number} is longer than ${MAX_LINE_BYTES} bytes and cannot be copied. Shorten it first.`,
            { lines: [number] },
          );
        }
        if (bytes.toString("latin1").trim() === "") mended.blankLines += 1;
        else await write(number, bytes, []);
      }
    }
    await output.sync();
    await output.close();
    await rename(temporary, target);
  } catch (error) {
    await output.close().catch(() => undefined);
    await rm(temporary, { force: true });
    throw error;
  }
  return mended;
}

/** The entries of a file that is one JSON list, as many exports are; null of any other. */
async function readList(path: string): Promise<unknown[] | null> {
  const { size } = await stat(path);
  if (size > MAX_LIST_BYTES) return null;
  const bytes = await readFile(path);
  if (!isUtf8(bytes) || !/^\s*\[/.test(bytes.toString("utf8", 0, 100))) return null;
  const parsed = parseJson(bytes.toString("utf8"));
  return parsed.ok && Array.isArray(parsed.value) ? parsed.value : null;
}

/** `text` is null where the bytes stay as they are. */
export function mendLine(bytes: Buffer): { text: string | null; changes: string[]; isGood: boolean } {
  const text = isUtf8(bytes) ? bytes.toString("utf8") : null;
  if (text === null) return { text: null, changes: [], isGood: false };
  const changes: string[] = [];
  let parsed = parseJson(text);
  if (!parsed.ok) {
    const shorter = text.trimEnd().replace(/,$/, "");
    parsed = parseJson(shorter);
    if (!parsed.ok) return { text: null, changes, isGood: false };
    changes.push("removed the comma behind the object");
  }
  const value = mendExample(parsed.value, changes);
  return {
    text: changes.length === 0 ? null : JSON.stringify(value),
    changes,
    isGood: readTrainingExample(value).example !== null,
  };
}

type JsonObject = Record<string, unknown>;

function mendExample(value: unknown, changes: string[]): unknown {
  if (!isObject(value)) return value;
  const example = toMessages(value, changes);
  const messages = example["messages"];
  if (!Array.isArray(messages)) return example;
  const kept = withoutExtra(example, TOP_LEVEL_KEYS, "", changes);
  return {
    ...kept,
    messages: messages.map((message: unknown, i) =>
      isObject(message) ? mendMessage(message, `message ${i + 1}: `, changes) : message,
    ),
  };
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
    const messages = conversations.map(({ from, value: content, ...others }: JsonObject) => ({
      role: from,
      content,
      ...others,
    }));
    return { ...rest, messages };
  }
  return value;
}

const ROLE_NAMES: Readonly<Record<string, string>> = {
  human: "user",
  gpt: "assistant",
  bot: "assistant",
  ai: "assistant",
  model: "assistant",
};

function mendMessage(message: JsonObject, place: string, changes: string[]): JsonObject {
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

function withoutExtra(
  value: JsonObject,
  allowed: readonly string[],
  place: string,
  changes: string[],
): JsonObject {
  const extra = Object.keys(value).filter((key) => !allowed.includes(key));
  for (const key of extra) changes.push(`${place}removed ${JSON.stringify(key.slice(0, 40))}`);
  return Object.fromEntries(Object.entries(value).filter(([key]) => allowed.includes(key)));
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
