// Asks a model about tickets through the official client, and counts how many answers are right. An answer is exact when
// all five fields have the wanted values; the order of the fields and white space do not count.
import { readFile } from "node:fs/promises";
import { isDeepStrictEqual } from "node:util";
import type OpenAI from "openai";

export interface Ticket {
  /** Everything before the answer. */
  messages: OpenAI.ChatCompletionMessageParam[];
  text: string;
  /** The right answer, JSON. */
  wanted: string;
}

export interface Answer {
  ticket: Ticket;
  text: string;
}

export interface Score {
  count: number;
  exact: number;
  validJson: number;
}

/** As many as the server decodes at a time. */
const CONCURRENT_REQUESTS = 32;
/** The longest right answer has 32 tokens; a base model that rambles is cut off. */
const MAX_ANSWER_TOKENS = 48;

export async function readTickets(path: string): Promise<Ticket[]> {
  const lines = (await readFile(path, "utf8")).split("\n").filter((line) => line !== "");
  return lines.map((line) => {
    const { messages } = JSON.parse(line) as { messages: { role: "system" | "user"; content: string }[] };
    return {
      messages: messages.slice(0, -1),
      text: messages.at(-2)?.content ?? "",
      wanted: messages.at(-1)?.content ?? "",
    };
  });
}

/** Answers in the order of the tickets, the most likely tokens only. */
export async function answerTickets(
  client: OpenAI,
  model: string,
  tickets: readonly Ticket[],
  signal?: AbortSignal,
): Promise<Answer[]> {
  const answers: Answer[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let i = next++; i < tickets.length; i = next++) {
      const ticket = tickets[i] as Ticket;
      const completion = await client.chat.completions.create(
        { model, messages: ticket.messages, temperature: 0, max_completion_tokens: MAX_ANSWER_TOKENS },
        signal === undefined ? {} : { signal },
      );
      answers[i] = { ticket, text: completion.choices[0]?.message.content ?? "" };
    }
  };
  await Promise.all(Array.from({ length: CONCURRENT_REQUESTS }, worker));
  return answers;
}

export function score(answers: readonly Answer[]): Score {
  const result: Score = { count: answers.length, exact: 0, validJson: 0 };
  for (const { ticket, text } of answers) {
    const given = parse(text);
    if (given === undefined) continue;
    result.validJson += 1;
    if (isDeepStrictEqual(given, parse(ticket.wanted))) result.exact += 1;
  }
  return result;
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
