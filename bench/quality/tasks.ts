// The tasks that quality is measured on, made from ../shared/data: conversations to train and validate on, and questions whose right
// answers are known. Everything drawn is drawn from the seed.
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import type { ChatMessage } from "../../src/data/chat-message.ts";
import { createRandom, shuffle } from "../../src/random.ts";

const DATA = join(import.meta.dirname, "../../../shared/data");

export interface Sizes {
  training: number;
  validation: number;
  test: number;
}

export interface Question {
  messages: ChatMessage[];
  wanted: string;
}

interface TaskBase {
  name: TaskName;
  /** Peak learning rate; it falls to 0 in a straight line. */
  learningRate: number;
  /** The task's data, as JSONL rows of OpenAI's formats. */
  training: object[];
  validation: object[];
}

export interface ChatTask extends TaskBase {
  method: "supervised";
  test: Question[];
  maxAnswerTokens: number;
  isRight: (answer: string, wanted: string) => boolean;
  /** Parts of an answer, for F1 over them; null: an answer has none. */
  partsOf: ((answer: string) => string[]) | null;
}

export interface PreferenceTask extends TaskBase {
  method: "dpo";
  beta: number;
}

export type Task = ChatTask | PreferenceTask;

export const CHAT_TASK_NAMES = ["restaurants8k", "banking77-10", "xquad"] as const;
export const TASK_NAMES = [...CHAT_TASK_NAMES, "banking77", "preference"] as const;
export type TaskName = (typeof TASK_NAMES)[number];

export const hasData = (): boolean => existsSync(DATA);

export async function loadTask(name: TaskName, sizes: Sizes, seed: number): Promise<Task> {
  return name === "preference" ? preference(sizes, seed) : loadChatTask(name, sizes, seed);
}

export async function loadChatTask(
  name: Exclude<TaskName, "preference">,
  sizes: Sizes,
  seed: number,
): Promise<ChatTask> {
  switch (name) {
    case "restaurants8k":
      return restaurants(sizes, seed);
    case "banking77-10":
      return banking(name, 10, sizes, seed);
    case "banking77":
      return banking(name, 77, sizes, seed);
    case "xquad":
      return paragraphs(sizes, seed);
  }
}

interface Utterance {
  userInput: { text: string };
  /** Offsets of 0 are left out in the file. */
  labels?: { slot: string; valueSpan: { startIndex?: number; endIndex: number } }[];
}

/** An utterance to a restaurant, and as JSON what it says of people, time, date and names. */
async function restaurants(sizes: Sizes, seed: number): Promise<ChatTask> {
  const read = async (file: string): Promise<Utterance[]> =>
    JSON.parse(await readFile(join(DATA, "restaurants8k", file), "utf8")) as Utterance[];
  const question = ({ userInput: { text }, labels = [] }: Utterance): Question => ({
    messages: [{ role: "user", content: text }],
    wanted: JSON.stringify(
      Object.fromEntries(
        labels.map(({ slot, valueSpan: { startIndex = 0, endIndex } }) => [
          slot,
          text.slice(startIndex, endIndex),
        ]),
      ),
    ),
  });
  const trained = drawn(await read("train.json"), sizes.training + sizes.validation, seed).map(question);
  const test = await read("test.json");
  // As in the reference run: two thirds of the questions have slots.
  const [full, empty] = [true, false].map((has) =>
    test.filter(({ labels = [] }) => labels.length > 0 === has),
  ) as [Utterance[], Utterance[]];
  const withSlots = Math.round((sizes.test * 2) / 3);
  return {
    name: "restaurants8k",
    method: "supervised",
    learningRate: 1e-3,
    ...chatsOf(trained, sizes),
    test: [...drawn(full, withSlots, seed), ...drawn(empty, sizes.test - withSlots, seed)].map(question),
    maxAnswerTokens: 64,
    isRight: (answer, wanted) => isDeepStrictEqual(parse(answer), parse(wanted)),
    partsOf: (answer) =>
      Object.entries(parse(answer) ?? {}).map(([slot, value]) => `${slot}=${String(value)}`),
  };
}

/** A bank customer's question and its intent, among the first so many. */
async function banking(
  name: "banking77" | "banking77-10",
  intentCount: number,
  sizes: Sizes,
  seed: number,
): Promise<ChatTask> {
  const categories = JSON.parse(await readFile(join(DATA, "banking77/categories.json"), "utf8")) as string[];
  const intents = new Set(categories.slice(0, intentCount));
  const read = async (file: string): Promise<Question[]> => {
    const text = await readFile(join(DATA, "banking77", file), "utf8");
    return csvRows(text)
      .slice(1)
      .filter(([, category]) => intents.has(category ?? ""))
      .map(([content = "", category = ""]) => ({
        messages: [{ role: "user", content }],
        wanted: category,
      }));
  };
  const trained = drawn(await read("train.csv"), sizes.training + sizes.validation, seed);
  return {
    name,
    method: "supervised",
    learningRate: 1e-3,
    ...chatsOf(trained, sizes),
    test: drawn(await read("test.csv"), sizes.test, seed),
    maxAnswerTokens: 24,
    isRight: (answer, wanted) => answer.trim() === wanted,
    partsOf: null,
  };
}

interface Paragraphs {
  data: { paragraphs: { context: string; qas: { question: string; answers: { text: string }[] }[] }[] }[];
}

/** A paragraph and a question about it, of the shortest; its answer stands in the paragraph. None is tested on a paragraph it saw. */
async function paragraphs(sizes: Sizes, seed: number): Promise<ChatTask> {
  const text = await readFile(join(DATA, "xquad/xquad.en.json"), "utf8");
  const shortest = (JSON.parse(text) as Paragraphs).data
    .flatMap(({ paragraphs }) => paragraphs)
    .sort((a, b) => a.context.length - b.context.length);
  const questions = shortest.map(({ context, qas }) =>
    qas.map(({ question, answers }) => ({
      messages: [{ role: "user" as const, content: `${context}\n\n${question}` }],
      wanted: answers[0]?.text ?? "",
    })),
  );
  const test: Question[] = [];
  const seen: Question[] = [];
  // In turns, so that both have paragraphs of like length.
  for (const [i, of] of questions.entries()) {
    if (i % 3 === 0 && test.length < sizes.test) test.push(...of);
    else if (seen.length < sizes.training + sizes.validation) seen.push(...of);
  }
  const trained = drawn(seen, sizes.training + sizes.validation, seed);
  return {
    name: "xquad",
    method: "supervised",
    learningRate: 1e-3,
    ...chatsOf(trained, sizes),
    test: test.slice(0, sizes.test),
    maxAnswerTokens: 32,
    isRight: (answer, wanted) => answer.trim() === wanted,
    partsOf: null,
  };
}

interface PreferencePair {
  conversations: { from: "human" | "gpt" | "system"; value: string }[];
  chosen: { value: string };
  rejected: { value: string };
}

/** The shortest pairs, so that a run takes minutes; which of them validate is drawn. */
async function preference(sizes: Sizes, seed: number): Promise<PreferenceTask> {
  const text = await readFile(join(DATA, "preference/dpo_en_demo.json"), "utf8");
  const length = ({ conversations, chosen, rejected }: PreferencePair): number =>
    conversations.reduce((sum, { value }) => sum + value.length, chosen.value.length + rejected.value.length);
  const shortest = (JSON.parse(text) as PreferencePair[])
    .filter(({ chosen, rejected }) => chosen.value !== rejected.value)
    .sort((a, b) => length(a) - length(b))
    .slice(0, sizes.training + sizes.validation);
  const rows = drawn(shortest, shortest.length, seed).map(({ conversations, chosen, rejected }) => ({
    input: {
      messages: conversations.map(({ from, value }) => ({
        role: from === "human" ? "user" : from === "gpt" ? "assistant" : "system",
        content: value,
      })),
    },
    preferred_output: [{ role: "assistant", content: chosen.value }],
    non_preferred_output: [{ role: "assistant", content: rejected.value }],
  }));
  return {
    name: "preference",
    method: "dpo",
    beta: 0.1,
    learningRate: 1e-4,
    training: rows.slice(0, sizes.training),
    validation: rows.slice(sizes.training),
  };
}

/** The first so many to train on, the others to validate with. */
function chatsOf(questions: readonly Question[], sizes: Sizes): Pick<ChatTask, "training" | "validation"> {
  const chats = questions.map(asChat);
  return { training: chats.slice(0, sizes.training), validation: chats.slice(sizes.training) };
}

function asChat({ messages, wanted }: Question): object {
  return { messages: [...messages, { role: "assistant", content: wanted }] };
}

function drawn<T>(items: readonly T[], count: number, seed: number): T[] {
  return shuffle([...items], createRandom(seed)).slice(0, count);
}

function parse(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}

/** Rows of a CSV: fields in quotation marks may hold commas, line feeds and doubled quotation marks. */
function csvRows(text: string): string[][] {
  const rows: string[][] = [[]];
  for (const [, quoted, plain, end] of text.matchAll(/(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r?\n|$)/g)) {
    rows.at(-1)?.push(quoted === undefined ? (plain ?? "") : quoted.replaceAll('""', '"'));
    if (end !== ",") rows.push([]);
  }
  return rows.filter((row) => row.length > 1);
}
