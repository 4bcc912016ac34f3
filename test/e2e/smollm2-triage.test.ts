// The main job with the real SmolLM2, on a slice of the ticket triage example: after a minute of training its answers have the
// form that the base model's never have. How good they are, the quickstart measures. Skipped where the model is not cached.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { answerTickets, readTickets, score } from "../../examples/ticket-triage/evaluate.ts";
import { SMOLLM2, SMOLLM2_FOLDER, smollm2 } from "../smollm2.ts";
import { cleanUp, homeWith, JOB_TIMEOUT_MS, lossesOf, serve, succeeded, upload } from "./harness.ts";

const TRIAGE = join(import.meta.dirname, "../../examples/ticket-triage");
const TRAINING_ROWS = 40;
const HELD_OUT_TICKETS = 8;

const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;

describe.skipIf(smollm2 === null)("SmolLM2", () => {
  afterAll(cleanUp);

  test(
    "learns from 40 tickets to answer in JSON",
    async () => {
      const { client } = await serve(await homeWith({ id: SMOLLM2, folder: SMOLLM2_FOLDER }), { threads: 2 });
      const lines = (await readFile(join(TRIAGE, "train.jsonl"), "utf8")).split("\n").slice(0, TRAINING_ROWS);
      const rows = lines.map((line) => JSON.parse(line) as object);
      const job = await client.fineTuning.jobs.create({
        model: SMOLLM2,
        training_file: await upload(client, rows),
        seed: 1,
        suffix: "triage",
        method: {
          type: "supervised",
          supervised: { hyperparameters: { n_epochs: 1, batch_size: 4, learning_rate_multiplier: 4 } },
        },
      });
      const { fine_tuned_model: model } = await succeeded(client, job.id);

      const losses = await lossesOf(client, job.id);
      expect(losses).toHaveLength(TRAINING_ROWS / 4);
      expect(mean(losses.slice(-3))).toBeLessThan(0.4 * (losses[0] as number));

      const tickets = (await readTickets(join(TRIAGE, "held-out.jsonl"))).slice(0, HELD_OUT_TICKETS);
      const base = score(await answerTickets(client, SMOLLM2, tickets));
      const tuned = score(await answerTickets(client, model ?? "", tickets));
      expect(base.validJson).toBeLessThanOrEqual(1);
      expect(tuned.validJson).toBeGreaterThanOrEqual(0.75 * HELD_OUT_TICKETS);
    },
    2 * JOB_TIMEOUT_MS,
  );
});
