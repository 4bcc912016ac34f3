// Answers of the user's server to many requests, some side by side.
import { setTimeout as delay } from "node:timers/promises";
import { messageOf } from "../errors.ts";
import { answerText } from "./differences.ts";
import type { AnswerMessage } from "./recording.ts";
import { someAtATime } from "./some-at-a-time.ts";
import { statusOf, type TunesmithClient } from "./tunesmith-client.ts";

/** Requests that the server answers side by side. */
const ANSWERS_AT_A_TIME = 4;
/** Tries of a request that the server is too busy for, and the wait between them. */
const MAX_TRIES = 5;
const BUSY_WAIT_MS = 2_000;

/** What a model said; null with a fault where the server refused. */
export interface GivenAnswer {
  text: string | null;
  fault: string | null;
}

/** In the order of the requests. Throws what is the same for all: a model that is not there, a key that is not let in. */
export async function askAll(
  client: TunesmithClient,
  model: string,
  requests: readonly object[],
  onProgress: (done: number, total: number) => void,
): Promise<GivenAnswer[]> {
  const answers: GivenAnswer[] = [];
  let done = 0;
  await someAtATime(requests, ANSWERS_AT_A_TIME, async (request, index) => {
    try {
      answers[index] = { text: answerText(await ask(client, model, request)), fault: null };
    } catch (error) {
      const status = statusOf(error);
      if (status === null || status === 401 || status === 403 || status === 404) throw error;
      answers[index] = { text: null, fault: messageOf(error) };
    }
    onProgress(++done, requests.length);
  });
  return answers;
}

async function ask(client: TunesmithClient, model: string, request: object): Promise<AnswerMessage> {
  for (let tries = 1; ; tries++) {
    try {
      const answer = await client.post<{ choices: { message: AnswerMessage }[] }>("/chat/completions", {
        ...request,
        model,
      });
      return answer.choices[0]?.message ?? {};
    } catch (error) {
      const status = statusOf(error);
      if ((status !== 503 && status !== 429) || tries >= MAX_TRIES) throw error;
      await delay(BUSY_WAIT_MS);
    }
  }
}
