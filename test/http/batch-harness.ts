// What the batch tests share: a listening server that works on batches, input files, and waiting for an end.
import OpenAI, { toFile } from "openai";
import type { Config } from "../../src/config.ts";
import type { ServerOverrides } from "../../src/main.ts";
import type { BatchOutputLine } from "../../src/wire/batches.ts";
import { BASE_MODEL, testServer } from "./harness.ts";
import type { TestServer } from "./harness.ts";

export async function batchServer(
  settings: Partial<Config> = {},
  overrides: ServerOverrides = {},
): Promise<{ server: TestServer; client: OpenAI }> {
  const server = await testServer(settings, { runsBatches: true, ...overrides });
  const url = await server.listen();
  return { server, client: new OpenAI({ baseURL: `${url}/v1`, apiKey: "sk-any", maxRetries: 0 }) };
}

/** A line as it stands in a file; any member can be replaced, undefined leaves it out. */
export function requestLine(custom_id: string, changes: Record<string, unknown> = {}): string {
  return JSON.stringify({
    custom_id,
    method: "POST",
    url: "/v1/chat/completions",
    body: { model: BASE_MODEL, messages: [{ role: "user", content: custom_id }] },
    ...changes,
  });
}

export async function createBatch(
  client: OpenAI,
  lines: readonly string[] | string,
  more: Partial<OpenAI.BatchCreateParams> = {},
): Promise<OpenAI.Batch> {
  const text = typeof lines === "string" ? lines : lines.map((line) => `${line}\n`).join("");
  const file = await client.files.create({
    file: await toFile(Buffer.from(text), "requests.jsonl"),
    purpose: "batch",
  });
  return client.batches.create({
    input_file_id: file.id,
    endpoint: "/v1/chat/completions",
    completion_window: "24h",
    ...more,
  });
}

const ENDED = ["completed", "failed", "expired", "cancelled"];

/** Polls until the batch has ended, or has the given status. */
export async function settled(client: OpenAI, id: string, status?: string): Promise<OpenAI.Batch> {
  const deadline = Date.now() + 20_000;
  for (;;) {
    const batch = await client.batches.retrieve(id);
    if (status === undefined ? ENDED.includes(batch.status) : batch.status === status) return batch;
    if (Date.now() > deadline) throw new Error(`waited in vain: ${JSON.stringify(batch)}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** The lines of an output or error file, by custom id. */
export async function outputOf(
  client: OpenAI,
  fileId: string | null | undefined,
): Promise<Map<string, BatchOutputLine>> {
  if (fileId === null || fileId === undefined) throw new Error("there is no file");
  const text = await (await client.files.content(fileId)).text();
  const lines = text
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as BatchOutputLine);
  return new Map(lines.map((line) => [line.custom_id, line]));
}
