// A job that changes its recipe, from the official client to the adapter that is served: rank and layers, where rows are cut, an early
// end, the best checkpoint, and going on from it.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { jobPaths } from "../../src/training/job-directory.ts";
import type { JobRecipe } from "../../src/training/job-directory.ts";
import {
  cleanUp,
  eventsOf,
  JOB_TIMEOUT_MS,
  OPENAI_MODEL,
  serve,
  succeeded,
  ticketRows,
  tinyHome,
  until,
  upload,
} from "./harness.ts";

afterAll(cleanUp);

interface Marked {
  step_number: number;
  fine_tuned_model_checkpoint: string;
  metrics: { full_valid_loss?: number };
  tunesmith: { best: boolean };
}

test(
  "additions reach the adapter, the best checkpoint is marked, and a job that goes on keeps the adapter's rank",
  async () => {
    const home = await tinyHome();
    const { client } = await serve(home);
    const training_file = await upload(client, ticketRows(12));
    // Answers of another kind: once the training answers are learnt, their loss rises.
    const other = { role: "assistant" as const, content: "Zebra 77 quux" };
    const rows = ticketRows(6).map(({ messages }) => ({ messages: [...messages.slice(0, 2), other] }));
    const validation_file = await upload(client, rows);
    const create = (model: string, hyperparameters: object) =>
      client.fineTuning.jobs.create({
        ...{ model, training_file, validation_file, seed: 3 },
        method: { type: "supervised", supervised: { hyperparameters } },
      });
    const numbers = { n_epochs: 20, batch_size: 4, learning_rate_multiplier: 400 };
    const additions = {
      lora: { rank: 3, target_modules: ["v_proj", "down_proj"] },
      max_length: 100,
      early_stopping: { patience: 1 },
      warmup_ratio: 0,
      weight_decay: 0.1,
    };
    const created = await create(OPENAI_MODEL, { ...numbers, ...additions });
    expect(created.method?.supervised?.hyperparameters).toEqual({ ...numbers, ...additions });
    const job = await succeeded(client, created.id);
    const lora = { rank: 3, alpha: 6, dropout: 0, target_modules: ["v_proj", "down_proj"] };
    expect(job.method?.supervised?.hyperparameters).toEqual({ ...numbers, ...additions, lora });

    const paths = jobPaths(join(home, "jobs", job.id));
    const json = async (path: string) => JSON.parse(await readFile(path, "utf8")) as unknown;
    expect((await json(paths.recipe)) as JobRecipe).toMatchObject({
      maxLength: 100,
      earlyStopping: { patience: 1 },
      hyperparameters: { warmupRatio: 0, weightDecay: 0.1 },
    });
    expect(await json(join(paths.adapter, "adapter_config.json"))).toMatchObject({
      ...{ r: 3, lora_alpha: 6, target_modules: ["down_proj", "v_proj"] },
    });

    const checkpoints = (await client.fineTuning.jobs.checkpoints.list(job.id)).data as unknown as Marked[];
    const best = checkpoints.filter(({ tunesmith }) => tunesmith.best);
    expect(best).toHaveLength(1);
    const losses = checkpoints.map(({ metrics }) => metrics.full_valid_loss ?? NaN);
    expect(best[0]?.metrics.full_valid_loss).toBe(Math.min(...losses));
    // With early stopping the best one is the model.
    expect(best[0]?.fine_tuned_model_checkpoint).toBe(job.fine_tuned_model);
    const messages = (await eventsOf(client, job.id)).map(({ message }) => message);
    expect(messages).toContainEqual(expect.stringMatching(/^Training stopped early at step \d+ of 60/));
    expect(messages).toContainEqual(expect.stringMatching(`^Best checkpoint: ${job.fine_tuned_model}`));

    for (const model of checkpoints.map((each) => each.fine_tuned_model_checkpoint)) {
      const messages = [{ role: "user" as const, content: "Hello" }];
      const { choices } = await client.chat.completions.create({ model, messages, max_completion_tokens: 4 });
      expect(choices).toHaveLength(1);
    }

    const one = { n_epochs: 1, batch_size: 12 };
    const unlike = await create(job.fine_tuned_model ?? "", { ...one, lora: { rank: 5 } });
    await until("the other has failed", async () => {
      return (await client.fineTuning.jobs.retrieve(unlike.id)).status === "failed";
    });
    expect((await client.fineTuning.jobs.retrieve(unlike.id)).error).toMatchObject({
      code: "lora_mismatch",
      message: expect.stringContaining("has rank 3, and asks for 5") as string,
    });
    const same = await create(job.fine_tuned_model ?? "", { ...one, lora: { dropout: 0.1 } });
    const shown = await succeeded(client, same.id);
    expect(shown.method?.supervised?.hyperparameters).toMatchObject({ lora: { ...lora, dropout: 0.1 } });
  },
  JOB_TIMEOUT_MS,
);
