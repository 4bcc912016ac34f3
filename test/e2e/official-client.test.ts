// The main job through the official `openai` client against a listening server with the real engine and trainer: upload,
// fine-tune, follow, chat, restart, delete. The tests build on each other, as a user's steps do.
import OpenAI from "openai";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  cleanUp,
  connect,
  eventsOf,
  JOB_TIMEOUT_MS,
  OPENAI_MODEL,
  serve,
  succeeded,
  ticketRows,
  TINY,
  tinyHome,
  upload,
} from "./harness.ts";
import type { Connection, FineTuningJob, Messages } from "./harness.ts";

const ROWS = ticketRows(13);
const VALIDATION_ROWS = ticketRows(20).slice(13);
const EPOCHS = 3;
const BATCH_SIZE = 2;
const STEPS_PER_EPOCH = Math.ceil(ROWS.length / BATCH_SIZE);
const STEPS = EPOCHS * STEPS_PER_EPOCH;

const PROMPT: Messages = [
  { role: "system", content: "Set the category." },
  { role: "user", content: "Ticket 3: please help me with my delivery." },
];

let home: string;
let connection: Connection;
let client: OpenAI;
let trainingFile: string;
let validationFile: string;
let job: FineTuningJob;
let model: string;

beforeAll(async () => {
  home = await tinyHome();
  await restart();
  trainingFile = await upload(client, ROWS);
  validationFile = await upload(client, VALIDATION_ROWS, "validation.jsonl");
  const created = await client.fineTuning.jobs.create({
    model: OPENAI_MODEL,
    training_file: trainingFile,
    validation_file: validationFile,
    suffix: "triage",
    seed: 7,
    method: {
      type: "supervised",
      supervised: {
        hyperparameters: { n_epochs: EPOCHS, batch_size: BATCH_SIZE, learning_rate_multiplier: 100 },
      },
    },
  });
  job = await succeeded(client, created.id);
  model = job.fine_tuned_model ?? "";
}, JOB_TIMEOUT_MS);

afterAll(cleanUp);

/** Also the first start. */
async function restart(): Promise<void> {
  await connection?.server.stop();
  connection = await serve(home);
  client = connection.client;
}

const ask = (options: Partial<OpenAI.ChatCompletionCreateParamsNonStreaming> = {}) =>
  client.chat.completions.create({
    model,
    messages: PROMPT,
    temperature: 0,
    max_completion_tokens: 24,
    ...options,
  });

async function answer(options: Partial<OpenAI.ChatCompletionCreateParamsNonStreaming> = {}): Promise<string> {
  return (await ask(options)).choices[0]?.message.content ?? "";
}

test("the job ends with all its fields filled", () => {
  expect(model).toMatch(/^ft:gpt-4o-mini-2024-07-18:personal:triage:[A-Za-z0-9]{8}$/);
  const hyperparameters = { n_epochs: EPOCHS, batch_size: BATCH_SIZE, learning_rate_multiplier: 100 };
  expect(job).toMatchObject({
    model: OPENAI_MODEL,
    seed: 7,
    training_file: trainingFile,
    validation_file: validationFile,
    error: null,
    hyperparameters,
    method: { type: "supervised", supervised: { hyperparameters } },
  });
  expect(job.finished_at).toBeGreaterThanOrEqual(job.created_at);
  expect(job.trained_tokens).toBeGreaterThan(0);
  expect((job.trained_tokens ?? 0) % EPOCHS).toBe(0);
});

test("the events come in the contract's order and words, and the first names the base model really trained", async () => {
  const events = await eventsOf(client, job.id);
  expect(events[0]?.data).toEqual({ base_model: TINY });
  const loss = "[0-9]+\\.[0-9]{2}";
  const epoch = (k: number): RegExp[] => [
    ...Array.from({ length: STEPS_PER_EPOCH }, (_, i) => {
      const step = (k - 1) * STEPS_PER_EPOCH + i + 1;
      const atEnd =
        i + 1 === STEPS_PER_EPOCH
          ? `, validation loss=${loss}, full validation loss=${loss}`
          : `(, validation loss=${loss})?`;
      return new RegExp(`^Step ${step}/${STEPS}: training loss=${loss}${atEnd}$`);
    }),
    new RegExp(`^Checkpoint created at step ${k * STEPS_PER_EPOCH}$`),
  ];
  const expected = [
    `Created fine-tuning job: ${job.id}`,
    `Training ${TINY} in place of ${OPENAI_MODEL}`,
    `Validating training file: ${trainingFile} and validation file: ${validationFile}`,
    "Files validated, moving job to queued state",
    "Fine-tuning job started",
    new RegExp(`^Training [0-9]+ parameters beside the [0-9]+ of the base model in ${STEPS} steps$`),
    ...epoch(1),
    ...epoch(2),
    ...epoch(3),
    // Ours.
    new RegExp(
      `^Best checkpoint: ft:\\S+, made at step [0-9]+, has the lowest full validation loss, ${loss}$`,
    ),
    `New fine-tuned model created: ${model}`,
    "The job has successfully completed",
  ];
  const messages = events.map(({ message }) => message);
  expect(messages).toEqual(
    expected.map((each) => (typeof each === "string" ? each : (expect.stringMatching(each) as string))),
  );
  expect(messages.some((message) => / validation loss=/.test(message.replace("full validation", "")))).toBe(
    true,
  );
  const metrics = events.filter(({ type }) => type === "metrics").map(({ data }) => data);
  expect(metrics.at(-1)).toMatchObject({
    step: STEPS,
    total_steps: STEPS,
    train_loss: expect.any(Number) as number,
    train_mean_token_accuracy: expect.any(Number) as number,
    full_valid_loss: expect.any(Number) as number,
  });
  const losses = metrics.map((data) => (data as { train_loss: number }).train_loss);
  expect(losses.at(-1)).toBeLessThan(0.6 * (losses[0] as number));
});

test("the result file is base64 of a CSV with one row for each step", async () => {
  expect(job.result_files).toHaveLength(1);
  const body = await (await client.files.content(job.result_files[0] ?? "")).text();
  const [header, ...rows] = Buffer.from(body, "base64").toString("utf8").trimEnd().split("\n");
  expect(header).toBe("step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy");
  expect(rows.map((row) => Number(row.split(",")[0]))).toEqual(
    Array.from({ length: STEPS }, (_, i) => i + 1),
  );
  for (const row of rows) expect(row).toMatch(/^[0-9]+(,[0-9]+\.[0-9]{5}){2}(,([0-9]+\.[0-9]{5})?){2}$/);
  expect((await client.files.retrieve(job.result_files[0] ?? "")).purpose).toBe("fine-tune-results");
});

test("each epoch leaves a checkpoint that answers under its own name", async () => {
  const checkpoints = (await client.fineTuning.jobs.checkpoints.list(job.id)).data;
  expect(checkpoints.map(({ step_number }) => step_number)).toEqual(
    [3, 2, 1].map((k) => k * STEPS_PER_EPOCH),
  );
  const [last, ...earlier] = checkpoints.map(
    ({ fine_tuned_model_checkpoint }) => fine_tuned_model_checkpoint,
  );
  expect(last).toBe(model);
  const answers = [];
  for (const [i, name] of earlier.entries()) {
    expect(name).toMatch(
      new RegExp(
        `^ft:${OPENAI_MODEL}:personal:triage:[A-Za-z0-9]{8}:ckpt-step-${(2 - i) * STEPS_PER_EPOCH}$`,
      ),
    );
    const completion = await ask({ model: name });
    expect(completion.model).toBe(name);
    answers.push(completion.choices[0]?.message.content);
  }
  // One epoch of a random model is another model than three.
  expect(answers.at(-1)).not.toBe(await answer());
});

test("the models list has the new model, the alias and the base model", async () => {
  const names: string[] = [];
  for await (const { id } of client.models.list()) names.push(id);
  expect(names).toEqual(expect.arrayContaining([model, OPENAI_MODEL, TINY]));
  expect(await client.models.retrieve(model)).toMatchObject({ id: model, owned_by: "personal" });
});

test("the tuned model answers otherwise than its base model, and the alias as the base model", async () => {
  const base = await answer({ model: TINY });
  expect(await answer()).not.toBe(base);
  expect(await answer({ model: OPENAI_MODEL })).toBe(base);
});

test.each([
  { name: "temperature 0", options: { temperature: 0 } },
  { name: "temperature 1 with a seed", options: { temperature: 1, seed: 11 } },
  { name: "top_p with a seed", options: { temperature: 1.3, top_p: 0.8, seed: 5 } },
])("$name: the same text again, and streamed", async ({ options }) => {
  const whole = await ask(options);
  const text = whole.choices[0]?.message.content;
  expect(await answer(options)).toBe(text);
  const stream = await client.chat.completions.create({
    model,
    messages: PROMPT,
    max_completion_tokens: 24,
    ...options,
    stream: true,
    stream_options: { include_usage: true },
  });
  let streamed = "";
  let reason: string | null = null;
  let usage: OpenAI.CompletionUsage | null | undefined;
  for await (const chunk of stream) {
    streamed += chunk.choices[0]?.delta.content ?? "";
    reason = chunk.choices[0]?.finish_reason ?? reason;
    usage = chunk.usage ?? usage;
  }
  expect(streamed).toBe(text);
  expect(reason).toBe(whole.choices[0]?.finish_reason);
  expect(usage).toEqual(whole.usage);
});

test("another seed gives another text", async () => {
  // The base model is random, so its texts are all but uniform: two seeds cannot meet.
  const [first, second] = [
    await answer({ model: TINY, temperature: 1, seed: 1 }),
    await answer({ model: TINY, temperature: 1, seed: 2 }),
  ];
  expect(first).not.toBe(second);
});

test("n, max_tokens and usage", async () => {
  const one = await ask({ model: TINY, max_completion_tokens: 6 });
  const { choices, usage } = await ask({
    model: TINY,
    n: 2,
    temperature: 1,
    seed: 3,
    max_completion_tokens: null,
    max_tokens: 6,
  });
  expect(choices.map(({ index }) => index)).toEqual([0, 1]);
  const texts = choices.map(({ message }) => message.content);
  expect(texts[0]).not.toBe(texts[1]);
  for (const { finish_reason } of choices) expect(finish_reason).toBe("length");
  expect(usage?.prompt_tokens).toBe(one.usage?.prompt_tokens);
  expect(usage?.completion_tokens).toBe(12);
  expect(usage?.total_tokens).toBe((usage?.prompt_tokens ?? 0) + 12);
});

test("stop ends the text before the stop text", async () => {
  const whole = await answer({ model: TINY });
  const stop = whole.slice(5, 8);
  expect(stop).toHaveLength(3);
  const stopped = await ask({ model: TINY, stop: [stop, "never to be seen"] });
  expect(stopped.choices[0]).toMatchObject({
    finish_reason: "stop",
    message: { content: whole.slice(0, whole.indexOf(stop)) },
  });
});

test("after a restart the model answers the same", async () => {
  const before = await answer();
  await restart();
  expect(await answer()).toBe(before);
  expect((await client.fineTuning.jobs.retrieve(job.id)).fine_tuned_model).toBe(model);
});

test("a deleted model is gone, also after a restart, and nothing answers in its place", async () => {
  expect(await client.models.delete(model)).toEqual({ id: model, object: "model", deleted: true });
  const isGone = async () => {
    const refused = { status: 404, code: "model_not_found" };
    await expect(ask()).rejects.toMatchObject(refused);
    await expect(ask()).rejects.toBeInstanceOf(OpenAI.NotFoundError);
    await expect(client.models.retrieve(model)).rejects.toMatchObject(refused);
    await expect(client.models.delete(model)).rejects.toMatchObject(refused);
  };
  await isGone();
  await restart();
  await isGone();
  // Its checkpoints are models of their own.
  const [, second] = (await client.fineTuning.jobs.checkpoints.list(job.id)).data;
  expect(await answer({ model: second?.fine_tuned_model_checkpoint ?? "" })).not.toBe("");
});

test("an unknown model is a 404", async () => {
  for (const unknown of ["gpt-9", "ft:gpt-4o-mini-2024-07-18:personal:triage:aaaaaaaa"]) {
    await expect(
      connect(connection.url).chat.completions.create({ model: unknown, messages: PROMPT }),
    ).rejects.toMatchObject({
      status: 404,
      code: "model_not_found",
    });
  }
});
