// A server in a temporary home with a fake engine and a fake catalogue, and a stand-in for the worker: what the HTTP tests
// share. No model, no trainer and no network are needed.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished } from "vitest";
import { loadConfig } from "../../src/config.ts";
import type { Config } from "../../src/config.ts";
import { createServer } from "../../src/main.ts";
import type { Server, ServerOverrides } from "../../src/main.ts";
import type {
  ChatEngine,
  ChatPrompt,
  CompletionEvent,
  CompletionRequest,
  TextRequest,
} from "../../src/serving/engine.ts";
import { newId } from "../../src/wire/ids.ts";
import type { NewKeyObject } from "../../src/wire/keys.ts";
import { watchAnswers } from "./answer-check.ts";

export const BASE_MODEL = "smollm2-135m-instruct";

/** Answers every choice with the words it was made with, one delta a word. */
export class FakeEngine implements ChatEngine {
  readonly requests: CompletionRequest[] = [];
  readonly textRequests: TextRequest[] = [];
  readonly forgotten: string[] = [];
  words = ["Hello", " there", "!"];
  /** Replaces the answer. */
  answer: ((request: CompletionRequest) => AsyncIterable<CompletionEvent>) | null = null;
  answerText: ((request: TextRequest) => AsyncIterable<CompletionEvent>) | null = null;

  complete(request: CompletionRequest): AsyncIterable<CompletionEvent> {
    this.requests.push(request);
    return this.answer?.(request) ?? this.#say(request);
  }

  completeText(request: TextRequest): AsyncIterable<CompletionEvent> {
    this.textRequests.push(request);
    return this.answerText?.(request) ?? this.#say(request);
  }

  async *#say(request: { n: number }): AsyncGenerator<CompletionEvent> {
    yield { type: "prompt", promptTokens: 7 };
    for (const text of this.words) {
      for (let index = 0; index < request.n; index++) yield { type: "text-delta", index, text };
    }
    for (let index = 0; index < request.n; index++) {
      yield { type: "finish", index, reason: "stop", completionTokens: this.words.length };
    }
  }

  /** A token a character. */
  async countTokens(request: ChatPrompt): Promise<number> {
    return request.messages.reduce((sum, { content }) => sum + (content ?? "").length, 0);
  }

  async forget(modelId: string): Promise<void> {
    this.forgotten.push(modelId);
  }

  async close(): Promise<void> {}
}

export interface TestServer extends Server {
  engine: FakeEngine;
  home: string;
}

/** A server that ends with the test. */
export async function testServer(
  settings: Partial<Config> = {},
  overrides: ServerOverrides = {},
  options: { mayFailToStop?: boolean } = {},
): Promise<TestServer> {
  const home = settings.homeDirectory ?? (await mkdtemp(join(tmpdir(), "tunesmith-http-")));
  const engine = new FakeEngine();
  const config = loadConfig({ port: 0, logLevel: "silent", homeDirectory: home, ...settings }, {});
  const server = await createServer(config, {
    engine,
    catalogue: {
      list: () => [{ id: BASE_MODEL, created: 1_700_000_000 }],
      isKnown: (id) => id === BASE_MODEL,
      resolve: async (id) => ({ id, path: `/models/${id}` }),
    },
    createWorker: null,
    ...overrides,
  });
  const faults = watchAnswers(server.app);
  onTestFinished(async () => {
    expect(faults, "answers that are not what src/wire/operations.ts says").toEqual([]);
  });
  onTestFinished(async () => {
    await server.stop().catch((error: unknown) => {
      if (options.mayFailToStop !== true) throw error;
    });
    await rm(home, { recursive: true, force: true });
  });
  return { ...server, engine, home };
}

const BOUNDARY = "----tunesmith-test";

/** A multipart body of the given parts, in order. */
export function form(
  parts: readonly (
    { name: string; value: string } | { name: string; filename: string; content: string | Buffer }
  )[],
) {
  const chunks = parts.flatMap((part) => {
    const isFile = "filename" in part;
    const head = isFile
      ? `name="${part.name}"; filename="${part.filename}"\r\nContent-Type: application/octet-stream`
      : `name="${part.name}"`;
    return [
      Buffer.from(`--${BOUNDARY}\r\nContent-Disposition: form-data; ${head}\r\n\r\n`),
      Buffer.from(isFile ? part.content : part.value),
      Buffer.from("\r\n"),
    ];
  });
  return {
    payload: Buffer.concat([...chunks, Buffer.from(`--${BOUNDARY}--\r\n`)]),
    headers: { "content-type": `multipart/form-data; boundary=${BOUNDARY}` },
  };
}

/** Uploads a text and returns the file object. */
export async function upload(
  server: Server,
  content: string | Buffer = '{"messages":[]}\n',
  options: { filename?: string; purpose?: string; headers?: Record<string, string> } = {},
): Promise<{ id: string } & Record<string, unknown>> {
  const { filename = "train.jsonl", purpose = "fine-tune" } = options;
  const { payload, headers } = form([
    { name: "purpose", value: purpose },
    { name: "file", filename, content },
  ]);
  const answer = await server.app.inject({
    method: "POST",
    url: "/v1/files",
    payload,
    headers: { ...headers, ...options.headers },
  });
  if (answer.statusCode !== 200) throw new Error(answer.body);
  return answer.json();
}

/** Makes a key; with the key of an admin where the server has keys already. */
export async function createKey(server: Server, body: object, adminKey?: string): Promise<NewKeyObject> {
  const answer = await server.app.inject({
    method: "POST",
    url: "/tunesmith/keys",
    payload: body,
    headers: adminKey === undefined ? {} : { authorization: `Bearer ${adminKey}` },
  });
  if (answer.statusCode !== 200) throw new Error(answer.body);
  return answer.json();
}

/** Creates a job and takes it to success as a worker would; returns the names of its model and first checkpoint. */
export async function succeedJob(
  server: Server,
  jobId: string,
): Promise<{ model: string; checkpoint: string }> {
  const { queue, blobs } = server.stores;
  const owner = "test-worker";
  const job = await queue.claim(owner, Date.now() + 60_000);
  if (job?.id !== jobId) throw new Error(`claimed ${job?.id} instead of ${jobId}`);
  const lease = { jobId, owner };
  await queue.moveTo(lease, {
    from: ["validating_files"],
    to: "queued",
    changes: { hyperparameters: { n_epochs: 2, batch_size: 1, learning_rate_multiplier: 1.8 } },
  });
  await queue.moveTo(lease, { from: ["queued"], to: "running" });
  const csv = "step,train_loss\n1,0.50000\n";
  const fileId = newId("file");
  const blob = await blobs.write(fileId, chunksOf(csv), { maxBytes: 1000 });
  const named = (unique: string, end = "") => ({
    id: `ft:${job.model}:personal:${job.suffix ?? ""}:${unique}${end}`,
    ownedBy: "personal",
    baseModel: job.baseModel,
    requestedModel: job.model,
    adapterDirectory: `jobs/${jobId}/${unique}`,
  });
  const model = named("finalAAA");
  const checkpoint = named("earlyBBB", ":ckpt-step-10");
  await queue.finishSucceeded(lease, {
    model,
    resultFile: {
      id: fileId,
      filename: "step_metrics.csv",
      purpose: "fine-tune-results",
      expiresAt: null,
      ...blob,
    },
    trainedTokens: 5070,
    checkpoints: [
      { step: 10, model: checkpoint, metrics: { step: 10, train_loss: 0.7 } },
      { step: 20, model, metrics: { step: 20, train_loss: 0.5 } },
    ],
    events: [
      { message: `New fine-tuned model created: ${model.id}` },
      { message: "The job has successfully completed" },
    ],
  });
  return { model: model.id, checkpoint: checkpoint.id };
}

export async function* chunksOf(text: string): AsyncGenerator<Uint8Array> {
  yield Buffer.from(text);
}

export const messages = [{ role: "user", content: "Hi" }];

/** One chat completion, in process. */
export async function ask(server: Server, body: object) {
  return server.app.inject({
    method: "POST",
    url: "/v1/chat/completions",
    payload: { model: BASE_MODEL, messages, ...body },
  });
}

/** The events of a stream, parsed; "[DONE]" stays a text. */
export function eventsOf(body: string): unknown[] {
  if (!body.endsWith("\n\n")) throw new Error(`the stream ends inside an event: ${body.slice(-80)}`);
  return body
    .slice(0, -2)
    .split("\n\n")
    .map((event) => {
      const text = /^data: (.*)$/.exec(event)?.[1] ?? "";
      return text === "[DONE]" ? text : (JSON.parse(text) as unknown);
    });
}
