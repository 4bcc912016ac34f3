// `npm run quickstart`: the main job from start to end, through the official openai client, as a user's own code would do
// it. Starts a server on a free port, fine-tunes on this folder's tickets, and answers tickets it has never seen with the
// base model and with the tuned one.
import { setMaxListeners } from "node:events";
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type OpenAI from "openai";
import { createByteProgress, createProgress } from "../../src/cli/progress.ts";
import type { Progress } from "../../src/cli/progress.ts";
import { formatCount, formatDuration, formatTable } from "../../src/cli/terminal.ts";
import type { Terminal } from "../../src/cli/terminal.ts";
import { loadConfig } from "../../src/config.ts";
import { messageOf } from "../../src/errors.ts";
import { pullBaseModel } from "../../src/main/base-models.ts";
import type { Model, ModelStore } from "../../src/store/models.ts";
import { DEFAULT_PROJECT } from "../../src/wire/ids.ts";
import { answerTickets, readTickets, score } from "./evaluate.ts";
import type { Answer, Score } from "./evaluate.ts";
import { createOwnServer } from "./own-server.ts";

const BASE_MODEL = "smollm2-135m-instruct";
/** One pass over few examples: small batches for many steps, and a higher rate than the automatic multiplier of 2. */
const HYPERPARAMETERS = { n_epochs: 1, batch_size: 2, learning_rate_multiplier: 3 };
const POLL_INTERVAL_MS = 500;
/** Exit code after Ctrl-C, as shells have it. */
const INTERRUPTED = 130;
/** Tickets shown side by side at the end. */
const SHOWN_EXAMPLES = 3;

const json = process.argv.includes("--json");
const stop = new AbortController();
// Each request in flight listens to it.
setMaxListeners(0, stop.signal);
process.once("SIGINT", () => stop.abort());
/** With --json only the last line, on standard output, is the result. */
const terminal: Terminal = {
  stdin: process.stdin,
  stdout: json ? process.stderr : process.stdout,
  stderr: process.stderr,
  signal: stop.signal,
};
const say = (text: string): void => void terminal.stdout.write(`${text}\n`);
const file = (name: string): string => join(import.meta.dirname, name);

/** When the base model was there. */
let started = performance.now();
/** Of the base model's file. */
let baseBytes = 0;
try {
  await quickstart();
} catch (error) {
  process.stderr.write(`${failureText(error)}\n`);
  process.exitCode = stop.signal.aborted ? INTERRUPTED : 1;
}

async function quickstart(): Promise<void> {
  // Wrong settings are told of before anything is downloaded.
  loadConfig();
  await downloadBaseModel();
  started = performance.now();
  const { server, listen } = await createOwnServer();
  try {
    const client = await listen();
    say(`Serving ${client.baseURL}`);
    await run(client, server.stores.models);
  } finally {
    await server.stop();
  }
}

/** What a person can act on; of a bug in this program the place too. */
function failureText(error: unknown): string {
  if (stop.signal.aborted) return "Interrupted.";
  const isBug = error instanceof Error && error.constructor === TypeError;
  return isBug ? (error.stack ?? error.message) : messageOf(error);
}

async function downloadBaseModel(): Promise<void> {
  const progress = await createByteProgress(terminal, BASE_MODEL);
  const model = await pullBaseModel(BASE_MODEL, {
    signal: stop.signal,
    onProgress: (done, total) => progress?.update(done, total),
  }).finally(() => progress?.stop());
  baseBytes = (await stat(model.path)).size;
  say(`Base model ${BASE_MODEL}: ${model.path}`);
}

async function run(client: OpenAI, models: ModelStore): Promise<void> {
  const tickets = await readTickets(file("held-out.jsonl"));
  say(`Answering ${tickets.length} held-out tickets with the base model`);
  const before = await answerTickets(client, BASE_MODEL, tickets, stop.signal);

  const training = await client.files.create({
    file: createReadStream(file("train.jsonl")),
    purpose: "fine-tune",
  });
  const validation = await client.files.create({
    file: createReadStream(file("validation.jsonl")),
    purpose: "fine-tune",
  });
  const job = await client.fineTuning.jobs.create({
    model: BASE_MODEL,
    training_file: training.id,
    validation_file: validation.id,
    suffix: "ticket-triage",
    seed: 1,
    method: { type: "supervised", supervised: { hyperparameters: HYPERPARAMETERS } },
  });
  const { model, trainedTokens, events } = await follow(client, job.id).catch(async (error: unknown) => {
    // An abandoned job would be the first thing the next server works on.
    await client.fineTuning.jobs.cancel(job.id).catch(() => {});
    throw error;
  });

  say(`Answering the same tickets with ${model}`);
  const after = await answerTickets(client, model, tickets, stop.signal);
  const stored = await models.get(DEFAULT_PROJECT, model);
  if (stored === null) throw new Error(`internal: ${model} is not in the store`);
  await report(stored, score(before), score(after), before, after, trainedTokens, events);
}

type Event = OpenAI.FineTuning.FineTuningJobEvent;

/** Shows the job's events until it ends. */
async function follow(
  client: OpenAI,
  id: string,
): Promise<{ model: string; trainedTokens: number; events: Event[] }> {
  const progress = await createProgress(terminal);
  return followWith(client, id, progress).finally(() => progress?.stop());
}

async function followWith(
  client: OpenAI,
  id: string,
  progress: Progress | null,
): Promise<{ model: string; trainedTokens: number; events: Event[] }> {
  const seen = new Map<string, Event>();
  for (;;) {
    stop.signal.throwIfAborted();
    const job = await client.fineTuning.jobs.retrieve(id);
    const fresh: Event[] = [];
    for await (const event of client.fineTuning.jobs.listEvents(id, { limit: 100 })) {
      if (seen.has(event.id)) break;
      fresh.push(event);
    }
    for (const event of fresh.reverse()) {
      seen.set(event.id, event);
      if (progress !== null && event.type === "metrics")
        progress.update(event.data as Record<string, unknown>);
      else if (progress !== null) progress.print(`${event.message}\n`);
      else say(event.message);
    }
    if (job.status === "succeeded" && job.fine_tuned_model !== null) {
      return {
        model: job.fine_tuned_model,
        trainedTokens: job.trained_tokens ?? 0,
        events: [...seen.values()],
      };
    }
    if (job.status === "failed" || job.status === "cancelled") {
      throw new Error(`The job ${job.status}: ${job.error?.message ?? "no reason given"}`);
    }
    await delay(POLL_INTERVAL_MS);
  }
}

async function report(
  { id: model, adapterDirectory }: Model,
  base: Score,
  tuned: Score,
  before: readonly Answer[],
  after: readonly Answer[],
  trainedTokens: number,
  events: readonly Event[],
): Promise<void> {
  const adapterBytes = (await stat(join(adapterDirectory, "adapter_model.safetensors"))).size;
  const data = Object.assign({}, ...events.map((event) => event.data)) as Record<string, number>;
  const seconds = (performance.now() - started) / 1000;
  const percent = (count: number): string => `${Math.round((100 * count) / base.count)} %`;

  say("");
  say(
    formatTable(
      [
        { heading: `${base.count} held-out tickets` },
        { heading: "base", align: "right" },
        { heading: "tuned", align: "right" },
      ],
      [
        ["all five fields exact", percent(base.exact), percent(tuned.exact)],
        ["valid JSON", percent(base.validJson), percent(tuned.validJson)],
      ],
    ),
  );
  for (const [i, answer] of after.slice(0, SHOWN_EXAMPLES).entries()) {
    say(`ticket  ${answer.ticket.text}`);
    say(`wanted  ${answer.ticket.wanted}`);
    say(`base    ${oneLine(before[i]?.text ?? "")}`);
    say(`tuned   ${oneLine(answer.text)}\n`);
  }
  const share = (100 * (data["trainable_parameters"] ?? 0)) / (data["base_parameters"] ?? 1);
  say(
    `Trained ${formatCount(data["trainable_parameters"] ?? 0)} parameters beside the ${formatCount(data["base_parameters"] ?? 0)} of the base model (${share.toFixed(1)} %), ${formatCount(trainedTokens)} tokens.`,
  );
  say(
    `The adapter is yours: ${(adapterBytes / 1e6).toFixed(1)} MB beside ${(baseBytes / 1e6).toFixed(0)} MB of the base model's file, in ${adapterDirectory}`,
  );
  say(`All of this took ${formatDuration(seconds)}.`);
  say(
    `\nNext: start the server and ask your model something:\n  npx tunesmith serve\n  npx tunesmith chat ${model}`,
  );

  if (!json) return;
  const result = {
    seconds,
    base_exact: base.exact / base.count,
    tuned_exact: tuned.exact / tuned.count,
    base_valid_json: base.validJson / base.count,
    tuned_valid_json: tuned.validJson / tuned.count,
    held_out: base.count,
    trained_tokens: trainedTokens,
    train_tokens_per_second: data["tokens_per_second"],
    adapter_bytes: adapterBytes,
    // Server and trainer are two processes; together they never need more than this.
    peak_rss_bytes: process.resourceUsage().maxRSS * 1024 + (data["peak_rss_bytes"] ?? 0),
  };
  process.stdout.write(`${JSON.stringify(result)}\n`);
}

/** Answers of a base model ramble over many lines. */
function oneLine(text: string): string {
  const line = text.replaceAll(/\s+/g, " ").trim();
  return line.length > 120 ? `${line.slice(0, 117)}...` : line;
}
