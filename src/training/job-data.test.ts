// Both files of a job encoded, at once or by and by, and an event for each that was cut.
import { createHash } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { makeTinyModel } from "../../scripts/make-tiny-model.ts";
import { openBaseModel } from "../model/base-model.ts";
import { EventLog, readEvents } from "./event-log.ts";
import { JobData } from "./job-data.ts";
import type { JobRecipe } from "./job-directory.ts";
import { CHATS } from "./line-encoding.ts";
import type { SupervisedExample } from "../data/supervised-example.ts";
import type { TrainingExample } from "../data/training-example.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "job-data-"));
  await makeTinyModel(join(folder, "model"));
});
afterAll(() => rm(folder, { recursive: true }));

const row = (i: number, note = "") => ({
  messages: [
    { role: "user", content: `Question ${i}` },
    { role: "assistant", content: `Answer ${i} ${"long ".repeat(i % 50)}${note}` },
  ],
});

async function save(file: string, rows: readonly object[]): Promise<JobRecipe["trainingData"]> {
  const text = rows.map((one) => `${JSON.stringify(one)}\n`).join("");
  await writeFile(join(folder, file), text);
  return { file, sha256: createHash("sha256").update(text).digest("hex") };
}

/** `use` may encode on the way; at the end everything is. */
async function encode(
  count: number,
  validation: readonly object[],
  use: (data: JobData<TrainingExample, SupervisedExample>) => Promise<unknown> = () => Promise.resolve(),
) {
  const recipe = {
    method: "supervised",
    baseModel: { path: join(folder, "model") },
    trainingData: await save(
      "training.jsonl",
      Array.from({ length: count }, (_, i) => row(i)),
    ),
    validationData: await save("validation.jsonl", validation),
  } as unknown as JobRecipe;
  const path = join(folder, `events-${count}.jsonl`);
  await rm(path, { force: true });
  const events = await EventLog.open(path);
  const model = await openBaseModel(recipe.baseModel.path);
  try {
    const options = { directory: folder, recipe, events, model, maxLength: 60 };
    const { signal } = new AbortController();
    let time = 0;
    const data = await JobData.open({ ...options, signal, now: () => time++ }, CHATS);
    await use(data);
    return { data: await data.all(), events: await readEvents(path) };
  } finally {
    await model.close();
    await events.close();
  }
}

it("both files are encoded, and cuts of each are told of", async () => {
  const { data, events } = await encode(50, [row(0), row(49)]);
  expect(data.training.examples).toHaveLength(50);
  expect(data.validation.examples).toHaveLength(2);
  expect(data.training.truncated.examples).toBeGreaterThan(2);
  const cut = events.map((event) => event.type === "truncated" && [event.param, event.examples]);
  expect(cut).toEqual([
    ["training_file", data.training.truncated.examples],
    ["validation_file", 1],
  ]);
});

it("encoded by and by, they are the same, and cuts are told of once, as soon as they are all known", async () => {
  const validation = [row(0), row(49)];
  const whole = await encode(50, validation);
  let turns = 0;
  const { data, events } = await encode(50, validation, async (lazy) => {
    expect(await lazy.training.at([49, 3])).toHaveLength(2);
    for (; !(lazy.training.isEncoded && lazy.validation.isEncoded); turns++) await lazy.encodeFor(10);
    await lazy.encodeFor(10);
  });
  expect(turns).toBeGreaterThan(3);
  expect(data).toEqual(whole.data);
  expect(events.map((event) => ({ ...event, at: 0 }))).toEqual(
    whole.events.map((event) => ({ ...event, at: 0 })),
  );
});

it("files without a long row are not told of", async () => {
  expect((await encode(10, [row(0)])).events).toEqual([]);
});
