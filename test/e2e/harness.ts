// What the end-to-end tests share: a home with the tiny model in it, a listening server on it, and jobs run through the
// official client. Everything made here is gone after `cleanUp`.
import { mkdir, mkdtemp, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import OpenAI, { toFile } from "openai";
import { makeTinyModel } from "../../scripts/make-tiny-model.ts";
import { loadConfig } from "../../src/config.ts";
import type { Config } from "../../src/config.ts";
import { createServer } from "../../src/main.ts";
import type { Server } from "../../src/main.ts";
import { modelDirectory } from "../../src/model/resolve-base-model.ts";

/** The local model that `OPENAI_MODEL` stands for. */
export const TINY = "tiny";
export const OPENAI_MODEL = "gpt-4o-mini-2024-07-18";

/** A busy machine may need minutes for what takes seconds; only a hang takes longer than this. */
export const JOB_TIMEOUT_MS = 300_000;

const POLL_INTERVAL_MS = 50;

const cleanUps: (() => Promise<unknown>)[] = [];

/** Runs what was registered, last first; for afterAll. */
export async function cleanUp(): Promise<void> {
  for (const each of cleanUps.splice(0).reverse()) await each();
}

export function atCleanUp(action: () => Promise<unknown>): void {
  cleanUps.push(action);
}

export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "tunesmith-e2e-"));
  atCleanUp(() => rm(folder, { recursive: true, force: true, maxRetries: 5 }));
  return folder;
}

/** A home folder that holds the tiny model. */
export async function tinyHome(): Promise<string> {
  const home = await temporaryFolder();
  await makeTinyModel(modelDirectory(home, TINY));
  return home;
}

/** A home folder in which a model that lies elsewhere is found under its name. */
export async function homeWith(model: { id: string; folder: string }): Promise<string> {
  const home = await temporaryFolder();
  await mkdir(join(home, "models"), { recursive: true });
  await symlink(model.folder, modelDirectory(home, model.id));
  return home;
}

export interface Connection {
  server: Server;
  url: string;
  client: OpenAI;
}

/** A server of this process, listening on a free port. */
export async function serve(homeDirectory: string, config: Partial<Config> = {}): Promise<Connection> {
  const server = await createServer(
    loadConfig({
      homeDirectory,
      host: "127.0.0.1",
      port: 0,
      apiKeys: [],
      threads: 1,
      logLevel: "error",
      modelAliases: { [OPENAI_MODEL]: TINY },
      ...config,
    }),
  );
  atCleanUp(() => server.stop());
  const url = await server.listen();
  return { server, url, client: connect(url) };
}

export function connect(url: string): OpenAI {
  return new OpenAI({ baseURL: `${url}/v1`, apiKey: "not-needed" });
}

export async function upload(client: OpenAI, rows: readonly object[], name = "train.jsonl"): Promise<string> {
  const text = rows.map((row) => `${JSON.stringify(row)}\n`).join("");
  return (await client.files.create({ file: await toFile(Buffer.from(text), name), purpose: "fine-tune" }))
    .id;
}

/** Looks again and again until the condition holds; fails with its name when that takes too long. */
export async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = Date.now() + JOB_TIMEOUT_MS;
  while (!(await holds())) {
    if (Date.now() > deadline) throw new Error(`Waited in vain until ${what}.`);
    await delay(POLL_INTERVAL_MS);
  }
}

export type FineTuningJob = OpenAI.FineTuning.FineTuningJob;

/** The job once it has succeeded; throws what it says when it ends otherwise. */
export async function succeeded(client: OpenAI, jobId: string): Promise<FineTuningJob> {
  let job = await client.fineTuning.jobs.retrieve(jobId);
  const ended = async (): Promise<boolean> => {
    job = await client.fineTuning.jobs.retrieve(jobId);
    return !["validating_files", "queued", "running"].includes(job.status);
  };
  await until(`job ${jobId} has ended`, ended);
  if (job.status !== "succeeded") throw new Error(`The job ${job.status}: ${JSON.stringify(job.error)}`);
  return job;
}

/** All events, oldest first, through the client's paging. */
export async function eventsOf(
  client: OpenAI,
  jobId: string,
): Promise<OpenAI.FineTuning.FineTuningJobEvent[]> {
  const events: OpenAI.FineTuning.FineTuningJobEvent[] = [];
  for await (const event of client.fineTuning.jobs.listEvents(jobId, { limit: 100 })) events.push(event);
  return events.reverse();
}

/** Training losses in order of steps, as the events report them. */
export async function lossesOf(client: OpenAI, jobId: string): Promise<number[]> {
  const metrics = (await eventsOf(client, jobId)).filter(({ type }) => type === "metrics");
  return metrics.map(({ data }) => (data as { train_loss: number }).train_loss);
}

export type Messages = OpenAI.ChatCompletionMessageParam[];

export interface Row {
  messages: { role: "system" | "user" | "assistant"; content: string }[];
}

const CATEGORIES = ["billing", "refund", "account", "delivery"] as const;

/** Short tickets with one-word answers: a tiny model learns them in seconds. */
export function ticketRows(count: number): Row[] {
  return Array.from({ length: count }, (_, i) => {
    const category = CATEGORIES[i % CATEGORIES.length] as string;
    return {
      messages: [
        { role: "system", content: "Set the category." },
        { role: "user", content: `Ticket ${i}: please help me with my ${category}.` },
        { role: "assistant", content: category },
      ],
    };
  });
}
