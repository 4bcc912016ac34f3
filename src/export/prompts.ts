// The prompts that an export is compared on: those of the job's own data where it is still there, else built-in ones. It reads only
// as many lines as it needs.
import { createHash } from "node:crypto";
import { DATASET_FORMATS, MAX_LINE_BYTES } from "../data/dataset.ts";
import { fileLines } from "../data/file-lines.ts";
import { parseJson } from "../data/json-text.ts";
import type { ChatMessage, ToolDefinition } from "../data/chat-message.ts";
import { encodePrompt } from "../data/prompt.ts";
import type { ChatEncoding } from "../data/prompt.ts";
import { InvalidRequest, Unavailable } from "../errors.ts";

/** Prompts of one comparison: enough that a fault which shows in one answer of ten is seen, few enough to take seconds. */
export const COMPARED_PROMPTS = 20;
/** Longer prompts of the data are passed over: they cost time and show nothing that short ones do not. */
export const MAX_PROMPT_TOKENS = 256;
/** Lines of a data file that are looked at for prompts. */
const MAX_READ_LINES = 2_000;

/** What two tokenizers with their templates are compared on: every role, digits, spaces that merge, and letters beyond ASCII. */
export const COMPARED_CONVERSATION = [
  { role: "user" as const, content: "One: 1, two: 2." },
  { role: "assistant" as const, content: "Zwölf\n\n  and <more>." },
  { role: "user" as const, content: "Thanks!" },
];

export interface PromptFile {
  kind: "validation_file" | "training_file";
  path: string;
  method: keyof typeof DATASET_FORMATS;
}

export interface ComparedPrompts {
  /** Token ids. */
  prompts: number[][];
  from: { validation_file: number; training_file: number; built_in: number };
  sha256: string;
}

/** Throws Unavailable where even the built-in prompts do not fit the model. */
export async function comparedPrompts(
  files: readonly PromptFile[],
  encoding: ChatEncoding,
  maxTokens: number,
): Promise<ComparedPrompts> {
  const from = { validation_file: 0, training_file: 0, built_in: 0 };
  const prompts = new Map<string, number[]>();
  const limit = Math.min(maxTokens, MAX_PROMPT_TOKENS);
  const add = (messages: readonly ChatMessage[], tools: ToolDefinition[] | undefined): boolean => {
    const tokens = tryEncode(messages, tools, encoding);
    const key = tokens?.join() ?? "";
    if (tokens === null || tokens.length === 0 || tokens.length > limit || prompts.has(key)) return false;
    prompts.set(key, tokens);
    return true;
  };
  for (const file of files) {
    for await (const { messages, tools } of promptsOf(file)) {
      if (prompts.size === COMPARED_PROMPTS) break;
      if (add(messages, tools)) from[file.kind] += 1;
    }
  }
  for (const text of BUILT_IN) {
    if (prompts.size === COMPARED_PROMPTS) break;
    if (add([{ role: "user", content: text }], undefined)) from.built_in += 1;
  }
  if (prompts.size < COMPARED_PROMPTS)
    throw new Unavailable(
      `The export cannot be checked: only ${prompts.size} of ${COMPARED_PROMPTS} prompts fit into ${limit} tokens of this model.`,
    );
  const ids = [...prompts.values()];
  return { prompts: ids, from, sha256: createHash("sha256").update(JSON.stringify(ids)).digest("hex") };
}

/** A template may refuse a conversation; it is then no prompt. */
function tryEncode(
  messages: readonly ChatMessage[],
  tools: ToolDefinition[] | undefined,
  encoding: ChatEncoding,
): number[] | null {
  try {
    return encodePrompt(messages, tools, encoding);
  } catch (error) {
    if (error instanceof InvalidRequest) return null;
    throw error;
  }
}

async function* promptsOf({
  path,
  method,
}: PromptFile): AsyncGenerator<{ messages: ChatMessage[]; tools?: ToolDefinition[] | undefined }> {
  for await (const { number, bytes } of fileLines(path, { maxLineBytes: MAX_LINE_BYTES })) {
    if (number > MAX_READ_LINES) return;
    const parsed = bytes === null ? null : parseJson(bytes.toString("utf8"));
    if (parsed === null || !parsed.ok) continue;
    if (method === "dpo") {
      const { example } = DATASET_FORMATS.dpo.read(parsed.value);
      if (example !== null) yield { messages: example.prompt, tools: example.tools };
    } else {
      const { example } = DATASET_FORMATS.supervised.read(parsed.value);
      const end = example?.messages.findLastIndex(({ role }) => role === "assistant") ?? -1;
      if (example !== null && end > 0)
        yield { messages: example.messages.slice(0, end), tools: example.tools };
    }
  }
}

/** Short, of different kinds, and no data of anybody's. */
const BUILT_IN: readonly string[] = [
  "Hello! Who are you?",
  "What is the capital of France?",
  "Write a haiku about the sea.",
  "Translate 'good morning' into Spanish.",
  "List three fruits, separated by commas.",
  "How much is 17 plus 25?",
  "Explain what a database index is in one sentence.",
  "Give me a JSON object with the keys name and age.",
  "Is a tomato a fruit or a vegetable?",
  "Rewrite politely: give me the report now.",
  "What comes after Wednesday?",
  "Write a Python function that reverses a string.",
  "Summarise in five words: the meeting was moved from Monday to Friday because the room was taken.",
  "Name a country in Africa.",
  "My parcel has not arrived. What should I do?",
  "Which is heavier, a kilogram of iron or a kilogram of feathers?",
  "Say the alphabet backwards from G.",
  "Classify as positive or negative: I would buy this again.",
  "What is the past tense of 'to run'?",
  "Tell me a short joke.",
  "How do I reset my password?",
  "Write one sentence that a pirate would say.",
  "What colour do you get from blue and yellow?",
  "Complete: The early bird",
];
