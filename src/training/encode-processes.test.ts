// Processes that encode against encoding in this one: equal examples, faults and counts in the file's order; and what becomes of
// errors, of an abort and of a process that dies.
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { makeTinyModel } from "../../scripts/make-tiny-model.ts";
import { createChatTemplate } from "../data/chat-template.ts";
import type { Line } from "../data/dataset.ts";
import { createTokenizer } from "../data/tokenizer.ts";
import type { TrainingExample } from "../data/training-example.ts";
import { UnsupportedModel } from "../errors.ts";
import { openBaseModel } from "../model/base-model.ts";
import { encoderHere } from "./encode-data.ts";
import { EncodingProcesses } from "./encode-processes.ts";
import { CHATS } from "./line-encoding.ts";

const MAX_LENGTH = 40;

let folder: string;
let modelPath: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "encode-processes-"));
  modelPath = join(folder, "model");
  await makeTinyModel(modelPath);
});
afterAll(() => rm(folder, { recursive: true }));

/** Of growing length, so that the last are cut, some of them before their answer. */
const LINES: Line<TrainingExample>[] = Array.from({ length: 301 }, (_, i) => ({
  line: i + 1,
  messages: [
    { role: "user", content: `Question ${i}${" more".repeat(Math.floor(i / 30))}?` },
    { role: "assistant", content: `Answer ${i % 7}` },
  ],
}));

async function withProcesses<T>(
  count: number,
  use: (processes: EncodingProcesses) => Promise<T>,
  { path = modelPath, signal = new AbortController().signal } = {},
): Promise<T> {
  const processes = new EncodingProcesses(
    count,
    { modelPath: path, method: "supervised", maxLength: MAX_LENGTH },
    signal,
  );
  try {
    return await use(processes);
  } finally {
    processes.end();
  }
}

it("processes make of lines what this process makes of them", async () => {
  const model = await openBaseModel(modelPath);
  await model.close();
  const options = {
    tokenizer: createTokenizer(model.tokenizer),
    template: createChatTemplate(model.tokenizer),
    maxLength: MAX_LENGTH,
  };
  const here = await encoderHere(CHATS, options, new AbortController().signal)(LINES);
  expect(here.examples.length).toBeGreaterThan(100);
  expect(here.truncated.examples).toBeGreaterThan(10);
  expect(here.faults.length).toBeGreaterThan(3);
  for (const count of [1, 2, 3]) {
    await withProcesses(count, async (processes) => {
      expect(await processes.encode(LINES)).toEqual(here);
      // The second file of a job.
      const { examples, faults } = await processes.encode(LINES.slice(0, 2));
      expect({ examples, faults }).toEqual({ examples: here.examples.slice(0, 2), faults: [] });
    });
  }
});

it("an error in a process is the same error here", async () => {
  const path = join(folder, "endless");
  await makeTinyModel(path);
  const file = join(path, "tokenizer_config.json");
  const config = JSON.parse(await readFile(file, "utf8")) as Record<string, unknown>;
  config["chat_template"] = "{% for message in messages %}{{ message.content }}{% endfor %}";
  await writeFile(file, JSON.stringify(config));
  const failed = withProcesses(2, (processes) => processes.encode(LINES), { path });
  await expect(failed).rejects.toThrow(UnsupportedModel);
});

it("an abort ends the wait at once, with its own reason", async () => {
  const stop = new AbortController();
  const encoded = withProcesses(1, (processes) => processes.encode(LINES), { signal: stop.signal });
  stop.abort(new Error("asked to stop"));
  await expect(encoded).rejects.toThrow("asked to stop");
});

it("a process that is gone is told of, before and while it is asked", async () => {
  const missing = { path: join(folder, "none") };
  await expect(withProcesses(1, (processes) => processes.encode(LINES), missing)).rejects.toThrow(
    "a process that encodes data ended with code 1",
  );
  await withProcesses(1, async (processes) => {
    const encoded = processes.encode(LINES);
    processes.end();
    await expect(encoded).rejects.toThrow("a process that encodes data ended");
    await expect(processes.encode(LINES)).rejects.toThrow();
  });
});
