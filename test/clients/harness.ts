// What the client tests share: a server as a process of its own, with the tiny model, a tiny embedding model and keys of
// several kinds; and a model tuned on it. Clients get nothing but its address, keys and names.
import { execFile } from "node:child_process";
import { cp, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import OpenAI from "openai";
import { modelDirectory } from "../../src/model/resolve-base-model.ts";
import { OPENAI_MODEL, succeeded, temporaryFolder, ticketRows, tinyHome, upload } from "../e2e/harness.ts";
import { spawnServer } from "../e2e/server-process.ts";

export const ROOT = fileURLToPath(new URL("../..", import.meta.url));

/** Answered by the tiny BERT of test/goldens, which lies where MiniLM's files would. */
export const EMBEDDING_MODEL = "text-embedding-3-small";
export const EMBEDDING_WIDTH = 24;

/** A base model that has to be fetched, from a hub that no client and no server can reach. */
export const UNREACHABLE_MODEL = "qwen3-0.6b";

export const HYPERPARAMETERS = { n_epochs: 2, batch_size: 4, learning_rate_multiplier: 100 };

const KEY = "sk-clients-0123456789-abcdefgh";

export interface ClientServer {
  baseURL: string;
  /** May do everything. */
  key: string;
  /** May only read. */
  readerKey: string;
  /** Makes a key that may send one request a minute. */
  limitedKey(): Promise<string>;
}

export async function startServer(): Promise<ClientServer> {
  const home = await tinyHome();
  await cp(join(ROOT, "test/goldens/tiny-bert"), modelDirectory(home, "all-minilm-l6-v2"), {
    recursive: true,
  });
  const { url } = await spawnServer(home, {
    TUNESMITH_API_KEYS: KEY,
    TUNESMITH_HUB_URL: "http://127.0.0.1:9",
  });
  const newKey = async (body: object): Promise<string> => {
    const response = await fetch(`${url}/tunesmith/keys`, {
      method: "POST",
      headers: { authorization: `Bearer ${KEY}`, "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    const { key } = (await response.json()) as { key?: string };
    if (key === undefined) throw new Error(`no key was made: ${response.status}`);
    return key;
  };
  return {
    baseURL: `${url}/v1`,
    key: KEY,
    readerKey: await newKey({ scopes: ["read"] }),
    limitedKey: () => newKey({ requests_per_minute: 1 }),
  };
}

/** For suites that only chat: a model tuned for a few steps. */
export async function tunedModel({ baseURL, key }: ClientServer): Promise<string> {
  const client = new OpenAI({ baseURL, apiKey: key });
  const created = await client.fineTuning.jobs.create({
    model: OPENAI_MODEL,
    training_file: await upload(client, ticketRows(12)),
    method: { type: "supervised", supervised: { hyperparameters: HYPERPARAMETERS } },
  });
  const { fine_tuned_model } = await succeeded(client, created.id);
  if (fine_tuned_model === null) throw new Error("the job has no model");
  return fine_tuned_model;
}

/** A training file on the disk, as a user has one. */
export async function trainingFile(folder?: string): Promise<string> {
  const path = join(folder ?? (await temporaryFolder()), "train.jsonl");
  await writeFile(
    path,
    ticketRows(12)
      .map((row) => `${JSON.stringify(row)}\n`)
      .join(""),
  );
  return path;
}

/** What every client finds in its environment. */
export function clientEnvironment(server: ClientServer, model: string): NodeJS.ProcessEnv {
  const { PATH, HOME, LANG } = process.env;
  return {
    PATH,
    HOME,
    LANG,
    OPENAI_BASE_URL: server.baseURL,
    OPENAI_API_KEY: server.key,
    MODEL: model,
  };
}

/** What keeps libraries from looking things up in the internet. */
export const OFFLINE = { LITELLM_LOCAL_MODEL_COST_MAP: "True", LANGSMITH_TRACING: "false" };

interface ProgramResult {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** A client that hangs is killed and fails; on a busy machine importing a library takes half a minute. */
export const PROGRAM_TIMEOUT_MS = 240_000;

/** Runs a program to its end, whatever its exit code. */
export function run(
  command: string,
  args: readonly string[],
  options: { env: NodeJS.ProcessEnv; cwd: string },
): Promise<ProgramResult> {
  return new Promise((resolve) => {
    const child = execFile(
      command,
      args,
      { ...options, timeout: PROGRAM_TIMEOUT_MS, maxBuffer: 16 * 2 ** 20 },
      (_error, stdout, stderr) => resolve({ code: child.exitCode, stdout, stderr }),
    );
  });
}

interface StepResult {
  step: string;
  error: string | null;
}

/** Runs a script of test/clients that is made of steps; fails with the steps that failed, or when some are missing. */
export async function runSteps(
  python: string | null,
  script: string,
  options: { args?: readonly string[]; env: NodeJS.ProcessEnv },
): Promise<void> {
  if (python === null) throw new Error("internal: without Python this test is to be skipped");
  const path = join(import.meta.dirname, script);
  const { code, stdout, stderr } = await run(python, ["-W", "ignore", path, ...(options.args ?? [])], {
    env: options.env,
    cwd: await temporaryFolder(),
  });
  const lines = stdout.split("\n").filter((line) => /^\{"step/.test(line));
  const [head, ...results] = lines.map((line) => JSON.parse(line) as StepResult & { steps: number });
  const failed = results.filter(({ error }) => error !== null);
  if (failed.length > 0) throw new Error(failed.map(({ step, error }) => `${step}: ${error}`).join("\n\n"));
  if (code !== 0 || head === undefined || results.length !== head.steps || results.length === 0) {
    const done = results.map(({ step }) => step).join(", ");
    throw new Error(`${script} ended with ${code} after the steps ${done}.\n${stderr}`);
  }
}
