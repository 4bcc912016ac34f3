// From creating a job on 10,000 short rows to its first step: a server of its own in a fresh home folder, with the base model that is
// already on this machine. Prints one JSON object on the last line.
// `npm run bench:first-step -- --json [--rows 10000] [--batch 4] [--rounds 3]`
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, symlink } from "node:fs/promises";
import { availableParallelism, cpus, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { loadConfig } from "../src/config.ts";
import { resolveBaseModel } from "../src/model/resolve-base-model.ts";
import { jobPaths } from "../src/training/job-directory.ts";
import type { TrainerEvent } from "../src/training/job-directory.ts";

const { values: options } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    model: { type: "string", default: "smollm2-135m-instruct" },
    rows: { type: "string", default: "10000" },
    batch: { type: "string", default: "4" },
    rounds: { type: "string", default: "3" },
  },
});
const say = (line: string): void => void (options.json ? process.stderr : process.stdout).write(`${line}\n`);

const TICKETS = join(import.meta.dirname, "../examples/ticket-triage/train.jsonl");
const SERVER = join(import.meta.dirname, "api-server.ts");
const POLL_MS = 20;
const GIVE_UP_MS = 300_000;

/** Seconds from the request that created the job. */
interface Timeline {
  /** The request was answered. */
  created: number;
  /** The files were read and judged. */
  validated: number;
  /** The job directory stood and a trainer was started. */
  running: number;
  /** Weights loaded: the first step began. */
  first_step_begins: number;
  /** It is done, its graphs compiled. */
  first_step_ends: number;
}

const config = loadConfig();
await resolveBaseModel(options.model, config);
const home = await mkdtemp(join(tmpdir(), "tunesmith-bench-"));
const rounds: Timeline[] = [];
try {
  await symlink(join(config.homeDirectory, "models"), join(home, "models"));
  const data = await shortRows(Number(options.rows));
  const child = spawn(process.execPath, ["--import", "tsx", SERVER, home, "worker"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const exited = once(child, "exit");
  try {
    const [url] = (await Promise.race([once(createInterface(child.stdout), "line"), exited])) as [unknown];
    if (typeof url !== "string") throw new Error(`The server ended before it listened (${String(url)}).`);
    const file = await upload(url, data);
    for (let round = 0; round < Number(options.rounds); round++) {
      const timeline = await firstStep(url, file);
      say(JSON.stringify(timeline));
      rounds.push(timeline);
    }
  } finally {
    child.kill("SIGTERM");
    await exited;
  }
} finally {
  await rm(home, { recursive: true, force: true });
}
const sorted = [...rounds].sort((a, b) => a.first_step_begins - b.first_step_begins);
const result = {
  /** The median round. */
  ...sorted[Math.floor(sorted.length / 2)],
  rounds,
  rows: Number(options.rows),
  batch_size: Number(options.batch),
  model: options.model,
  load_average: loadavg()[0],
  cores: availableParallelism(),
  cpu: cpus()[0]?.model ?? "unknown",
  node: process.version,
};
if (options.json) process.stdout.write(`${JSON.stringify(result)}\n`);

/** Tickets, each of its own: copies would be told of as duplicates. */
async function shortRows(count: number): Promise<string> {
  const tickets = (await readFile(TICKETS, "utf8")).trimEnd().split("\n");
  const rows = Array.from({ length: count }, (_, i) => {
    const { messages } = JSON.parse(tickets[i % tickets.length] ?? "") as {
      messages: { role: string; content: string }[];
    };
    const [system, user, answer] = messages;
    const asked = { role: "user", content: `${user?.content} Reference ${i}.` };
    return `${JSON.stringify({ messages: [system, asked, answer] })}\n`;
  });
  return rows.join("");
}

async function upload(url: string, data: string): Promise<string> {
  const form = new FormData();
  form.set("purpose", "fine-tune");
  form.set("file", new Blob([data]), "train.jsonl");
  const answer = await fetch(`${url}/v1/files`, { method: "POST", body: form });
  return ((await answer.json()) as { id: string }).id;
}

async function firstStep(url: string, file: string): Promise<Timeline> {
  const since = Date.now();
  const seconds = (at = Date.now()): number => (at - since) / 1000;
  const created = await call<{ id: string }>(url, "/v1/fine_tuning/jobs", {
    model: options.model,
    training_file: file,
    seed: 1,
    method: {
      type: "supervised",
      supervised: { hyperparameters: { batch_size: Number(options.batch), n_epochs: 1 } },
    },
  });
  const timeline: Partial<Timeline> = { created: seconds() };
  const { events } = jobPaths(join(home, "jobs", created.id));
  while (timeline.first_step_ends === undefined) {
    if (Date.now() - since > GIVE_UP_MS) throw new Error("The first step took more than five minutes.");
    await delay(POLL_MS);
    if (timeline.running === undefined) {
      const { status } = await call<{ status: string }>(url, `/v1/fine_tuning/jobs/${created.id}`);
      if (status === "failed") throw new Error("The job failed.");
      if (status !== "validating_files") timeline.validated ??= seconds();
      if (status === "running") timeline.running = seconds();
      continue;
    }
    for (const line of (await readFile(events, "utf8").catch(() => "")).split("\n").slice(0, -1)) {
      const event = JSON.parse(line) as TrainerEvent;
      if (event.type === "started") timeline.first_step_begins = seconds(event.at);
      if (event.type === "metrics") timeline.first_step_ends ??= seconds(event.at);
    }
  }
  await call(url, `/v1/fine_tuning/jobs/${created.id}/cancel`, {});
  // The next round must not share the machine with this one's trainer.
  while ((await call<{ status: string }>(url, `/v1/fine_tuning/jobs/${created.id}`)).status === "running")
    await delay(POLL_MS);
  await delay(2_000);
  return timeline as Timeline;
}

async function call<T>(url: string, path: string, body?: object): Promise<T> {
  const answer = await fetch(`${url}${path}`, {
    method: body === undefined ? "GET" : "POST",
    headers: { "content-type": "application/json" },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  if (!answer.ok) throw new Error(await answer.text());
  return (await answer.json()) as T;
}
