// Training on data nobody here wrote, in the forms it comes in: restaurant bookings with slots (CC BY 4.0, PolyAI
// task-specific-datasets) turned into chats, and a mix of instruction data as it is (Apache-2.0 and MIT). The data is no part of
// this repository: skipped where it does not lie beside it.
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  cleanUp,
  JOB_TIMEOUT_MS,
  lossesOf,
  OPENAI_MODEL,
  serve,
  succeeded,
  tinyHome,
  upload,
} from "./harness.ts";
import type { Connection, Row } from "./harness.ts";

const DATA = join(import.meta.dirname, "../../../shared/data");
const RESTAURANTS = join(DATA, "restaurants8k/train.json");
const MIX = join(DATA, "mix/mix-1000.jsonl");

/** The tiny model's tokens are about two characters, its context 1,024 tokens. */
const MAX_ROW_CHARACTERS = 1_200;

interface Booking {
  userInput: { text: string };
  labels?: { slot: string; valueSpan: { startIndex?: number; endIndex: number } }[];
}

/** The utterance as the question, its slots as JSON as the answer. */
function toRow({ userInput: { text }, labels = [] }: Booking): Row {
  const slots = labels.map(({ slot, valueSpan: { startIndex = 0, endIndex } }) => [
    slot,
    text.slice(startIndex, endIndex),
  ]);
  return {
    messages: [
      { role: "user", content: text },
      { role: "assistant", content: JSON.stringify(Object.fromEntries(slots)) },
    ],
  };
}

let connection: Connection;

/** Two passes over the rows; gives back the mean losses of each. */
async function trainTwice(rows: readonly object[]): Promise<[number, number]> {
  const { client } = connection;
  const job = await client.fineTuning.jobs.create({
    model: OPENAI_MODEL,
    training_file: await upload(client, rows),
    seed: 1,
    method: {
      type: "supervised",
      supervised: { hyperparameters: { n_epochs: 2, batch_size: 4, learning_rate_multiplier: 100 } },
    },
  });
  const { trained_tokens } = await succeeded(client, job.id);
  expect(trained_tokens).toBeGreaterThan(0);
  const losses = await lossesOf(client, job.id);
  expect(losses).toHaveLength(2 * Math.ceil(rows.length / 4));
  const mean = (values: readonly number[]): number =>
    values.reduce((sum, value) => sum + value, 0) / values.length;
  return [mean(losses.slice(0, losses.length / 2)), mean(losses.slice(losses.length / 2))];
}

describe.skipIf(!existsSync(RESTAURANTS) || !existsSync(MIX))("third-party data", () => {
  beforeAll(async () => {
    connection = await serve(await tinyHome());
  });
  afterAll(cleanUp);

  test(
    "restaurant bookings",
    async () => {
      const bookings = JSON.parse(await readFile(RESTAURANTS, "utf8")) as Booking[];
      const rows = bookings.filter(({ labels = [] }) => labels.length > 0).map(toRow);
      expect(rows.length).toBeGreaterThan(100);
      const [first, second] = await trainTwice(rows.slice(0, 48));
      expect(second).toBeLessThan(0.85 * first);
    },
    JOB_TIMEOUT_MS,
  );

  test(
    "a mix of instruction data",
    async () => {
      const lines = (await readFile(MIX, "utf8")).trimEnd().split("\n");
      const short = lines.filter((line) => line.length <= MAX_ROW_CHARACTERS).slice(0, 48);
      const [first, second] = await trainTwice(short.map((line) => JSON.parse(line) as object));
      expect(second).toBeLessThan(0.97 * first);
    },
    JOB_TIMEOUT_MS,
  );
});
