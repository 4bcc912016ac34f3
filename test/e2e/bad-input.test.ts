// Bad input through the official client and a real server: each is a clear error that says what was expected, what was found
// and what to do; the server goes on, and no data is left in the job's folder.
import { readdirSync } from "node:fs";
import { copyFile, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import OpenAI, { toFile } from "openai";
import { afterAll, beforeAll, expect, test } from "vitest";
import { readSafetensors } from "../reference/read-safetensors.ts";
import { writeSafetensors } from "../../src/model/safetensors.ts";
import { modelDirectory } from "../../src/model/resolve-base-model.ts";
import { cleanUp, JOB_TIMEOUT_MS, serve, ticketRows, TINY, tinyHome, until } from "./harness.ts";

let home: string;
let client: OpenAI;

const lines = ticketRows(12).map((row) => JSON.stringify(row));
const withLine = (bad: string | Buffer): Buffer =>
  Buffer.concat([Buffer.from(`${lines.join("\n")}\n`), Buffer.from(bad), Buffer.from("\n")]);
const withMessages = (...messages: object[]): Buffer => withLine(JSON.stringify({ messages }));
const user = { role: "user", content: "Hi" };

async function upload(content: Buffer): Promise<string> {
  const file = await toFile(content, "train.jsonl");
  return (await client.files.create({ file, purpose: "fine-tune" })).id;
}

/** How a job on this data and model ends. */
async function endOf(content: Buffer, model: string = TINY) {
  const { id } = await client.fineTuning.jobs.create({
    model,
    training_file: await upload(content),
    method: { type: "supervised", supervised: { hyperparameters: { n_epochs: 1, batch_size: 12 } } },
  });
  let job = await client.fineTuning.jobs.retrieve(id);
  const ended = async (): Promise<boolean> => {
    job = await client.fineTuning.jobs.retrieve(id);
    return ["succeeded", "failed"].includes(job.status);
  };
  await until("the job has ended", ended);
  const left = () =>
    readdirSync(join(home, "jobs")).includes(id) ? readdirSync(join(home, "jobs", id)) : [];
  await until("its data is gone", () => !left().some((name) => /^(training|validation)\.jsonl/.test(name)));
  return { status: job.status, error: job.error };
}

/** A copy of the tiny model in which something is wrong. */
async function brokenModel(name: string, change: (folder: string) => Promise<unknown>): Promise<void> {
  const folder = modelDirectory(home, name);
  await mkdir(folder);
  for (const file of await readdir(modelDirectory(home, TINY))) {
    await copyFile(join(modelDirectory(home, TINY), file), join(folder, file));
  }
  await change(folder);
}

const Q = "model.layers.1.self_attn.q_proj.weight";

/** Rewrites the weights. */
async function reshape(
  folder: string,
  change: (tensors: Map<string, { shape: number[]; data: Float32Array }>) => void,
) {
  const path = join(folder, "model.safetensors");
  const tensors = new Map(
    [...readSafetensors(path)].map(([name, { shape, values }]) => [
      name,
      { shape: [...shape], data: Float32Array.from(values) },
    ]),
  );
  change(tensors);
  await writeSafetensors(path, tensors);
}

beforeAll(async () => {
  home = await tinyHome();
  await brokenModel("without-a-tensor", (folder) => reshape(folder, (tensors) => tensors.delete(Q)));
  await brokenModel("wrong-shape", (folder) =>
    reshape(folder, (tensors) => tensors.set(Q, { shape: [1, 2], data: new Float32Array(2) })),
  );
  const gguf = await readFile(new URL("../goldens/tiny-llama.gguf", import.meta.url));
  await writeFile(join(home, "corrupt.gguf"), gguf.subarray(0, gguf.length - 1000));
  ({ client } = await serve(home, {
    logLevel: "fatal",
    modelAliases: { "gpt-4o-mini": join(home, "corrupt.gguf") },
  }));
}, JOB_TIMEOUT_MS);
afterAll(cleanUp);

test.each<[string, () => Buffer, RegExp]>([
  [
    "an empty file",
    () => Buffer.alloc(0),
    /^Training file has 0 example\(s\), but must have at least 10 examples\. Add at least 10 more, one a line\.$/,
  ],
  ["invalid UTF-8", () => withLine(Buffer.from([0x22, 0xff, 0x22])), /Example 13 .*UTF-8/],
  [
    "a duplicate key",
    () => withLine('{"messages": [], "messages": []}'),
    /Example 13 has the key "messages" twice\. Keep one of the two\.$/,
  ],
  [
    "a wrong role",
    () => withMessages({ ...user, role: "bot" }),
    /Example 13, message 1 has role "bot", expected one of/,
  ],
  [
    "no assistant message",
    () => withMessages(user),
    /Example 13 has no assistant message, .*\. Add the answer the model shall give, as a message with role assistant\.$/,
  ],
  [
    "a huge number",
    () => withLine('{"messages": 1e999}'),
    /Example 13 holds a number that cannot be kept exactly: 1e999/,
  ],
  [
    "a line of 100 MB",
    () => withLine(`{"messages": "${"x".repeat(100 * 2 ** 20)}"}`),
    /Example 13 .*8 ?MiB|Example 13 .*8,?388,?608/,
  ],
])(
  "%s",
  async (_, content, message) => {
    const { status, error } = await endOf(content());
    expect(status).toBe("failed");
    expect(error?.param).toBe("training_file");
    expect(error?.message).toMatch(message);
  },
  JOB_TIMEOUT_MS,
);

test(
  "a byte order mark and CRLF are no fault",
  async () => {
    const { status } = await endOf(Buffer.from(`\ufeff${lines.join("\r\n")}\r\n`));
    expect(status).toBe("succeeded");
  },
  JOB_TIMEOUT_MS,
);

test.each([
  [
    "without-a-tensor",
    /tensor "model\.layers\.1\.self_attn\.q_proj\.weight" is missing; expected it with shape \[64, 64\].*get the model again/s,
  ],
  ["wrong-shape", /q_proj\.weight" has shape \[1, 2\]; the config asks for \[64, 64\].*get the model again/s],
  ["gpt-4o-mini", /corrupt\.gguf/],
])(
  "a broken base model, %s, fails the job and the chat with the same reason, and the server goes on",
  async (model, message) => {
    const { status, error } = await endOf(withLine(lines[0] as string), model);
    expect(status).toBe("failed");
    expect(error?.message).toMatch(message);
    const chat = client.chat.completions.create(
      { model, messages: [{ role: "user", content: "Hi" }] },
      { maxRetries: 0 },
    );
    const refused: unknown = await chat.then(
      () => null,
      (thrown: unknown) => thrown,
    );
    expect(refused).toBeInstanceOf(OpenAI.APIError);
    expect((refused as Error).message).toMatch(message);
    const answer = await client.chat.completions.create({
      model: TINY,
      messages: [{ role: "user", content: "Hi" }],
      max_tokens: 1,
    });
    expect(answer.choices).toHaveLength(1);
  },
  JOB_TIMEOUT_MS,
);
