// Both files of a job: small data in this process, large data in others with something to do meanwhile; equal results and one event
// for each file that was cut.
import { createHash } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { makeTinyModel } from "../../scripts/make-tiny-model.ts";
import { openBaseModel } from "../model/base-model.ts";
import { MIN_BYTES_FOR_PROCESSES } from "./encode-processes.ts";
import { EventLog, readEvents } from "./event-log.ts";
import { encodeJobData } from "./job-data.ts";
import type { JobRecipe } from "./job-directory.ts";
import { CHATS } from "./line-encoding.ts";

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

async function encode(count: number, validation: readonly object[], meanwhile: () => void) {
  const recipe = {
    method: "supervised",
    threads: 2,
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
    const data = await encodeJobData({ ...options, signal }, CHATS, meanwhile);
    await events.flush();
    return { data, events: await readEvents(path) };
  } finally {
    await model.close();
    await events.close();
  }
}

/** Enough rows for the processes, by their mean length. */
const LARGE = Math.ceil(MIN_BYTES_FOR_PROCESSES / 200);

it("large data is encoded elsewhere, to the same examples, and this process works meanwhile", async () => {
  let [calls, smallCalls] = [0, 0];
  const small = await encode(40, [row(0), row(49)], () => void (smallCalls += 1));
  const large = await encode(LARGE, [row(0), row(49)], () => void (calls += 1));
  expect(smallCalls).toBe(0);
  // Once for each file.
  expect(calls).toBe(2);
  expect(large.data.training.examples).toHaveLength(LARGE);
  expect(large.data.training.examples.slice(0, 40)).toEqual(small.data.training.examples);
  expect(large.data.validation).toEqual(small.data.validation);
  const cut = large.events.map((event) => event.type === "truncated" && [event.param, event.examples]);
  expect(cut).toEqual([
    ["training_file", large.data.training.truncated.examples],
    ["validation_file", 1],
  ]);
});

it("an error of the work meanwhile is the error, and so is a bad line elsewhere", async () => {
  const failing = encode(LARGE, [row(0)], () => {
    throw new Error("no weights");
  });
  await expect(failing).rejects.toThrow("no weights");
  const long = { messages: [{ role: "user", content: "x ".repeat(100) }, row(0).messages[1] as object] };
  await expect(encode(LARGE, [long], () => undefined)).rejects.toMatchObject({
    code: "invalid_validation_file",
    lines: [1],
  });
});
