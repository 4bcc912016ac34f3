// Every setting once: its name, variable, default, unit and help. The only reader of the process's environment; all other
// code is handed values. docs/settings.md is made from SETTINGS.
import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { InvalidRequest } from "./errors.ts";
import {
  apiKeyList,
  Expected,
  filledText,
  httpUrl,
  matching,
  oneOf,
  originList,
  wholeNumber,
} from "./setting-values.ts";

type Environment = Readonly<Record<string, string | undefined>>;

interface Setting<T> {
  variable: `TUNESMITH_${string}`;
  help: string;
  /** Null where a value has no unit. */
  unit: string | null;
  /** As it would be written in the environment. */
  default: string | ((environment: Environment) => string);
  /** Throws an Expected with what it wants instead. */
  parse: (text: string) => T;
}

export const RESULT_FILE_ENCODINGS = ["base64", "csv"] as const;
export const EMPTY_ERRORS = ["null", "object"] as const;
export const PYTHON_GRADER_MODES = ["off", "isolated", "unconfined"] as const;
export const LOG_LEVELS = ["fatal", "error", "warn", "info", "debug", "trace", "silent"] as const;

/** The local model that OpenAI's names stand for until someone says otherwise. */
const DEFAULT_BASE_MODEL = "smollm2-135m-instruct";

/** The local model that OpenAI's embedding models stand for. */
const DEFAULT_EMBEDDING_MODEL = "all-minilm-l6-v2";

const OPENAI_EMBEDDING_MODELS = [
  "text-embedding-3-small",
  "text-embedding-3-large",
  "text-embedding-ada-002",
] as const;

/** OpenAI's tunable models: undated name, and the snapshot it resolves to. */
const OPENAI_SNAPSHOTS = {
  "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
  "gpt-4o": "gpt-4o-2024-08-06",
  "gpt-4.1": "gpt-4.1-2025-04-14",
  "gpt-4.1-mini": "gpt-4.1-mini-2025-04-14",
  "gpt-4.1-nano": "gpt-4.1-nano-2025-04-14",
  "gpt-3.5-turbo": "gpt-3.5-turbo-0125",
  "gpt-4": "gpt-4-0613",
} as const;

/** Tunable names beside those, which no undated one resolves to. */
const OTHER_TUNABLE_MODELS = [
  "gpt-3.5-turbo-1106",
  "gpt-3.5-turbo-0613",
  "babbage-002",
  "davinci-002",
] as const;

export const SETTINGS = {
  host: setting({
    variable: "TUNESMITH_HOST",
    help: "Address to listen on. Any other than this machine's own needs an API key: one made with `tunesmith keys create`, or TUNESMITH_API_KEYS.",
    default: "127.0.0.1",
    parse: filledText,
  }),
  port: setting({
    variable: "TUNESMITH_PORT",
    help: "TCP port to listen on; 0 takes a free one.",
    default: "8080",
    parse: wholeNumber(0, 65_535),
  }),
  homeDirectory: setting({
    variable: "TUNESMITH_HOME",
    help: "Folder of everything that is kept: database, files, jobs, adapters, base models.",
    default: userCacheFolder,
    parse: (text) => resolve(filledText(text)),
  }),
  apiKeys: setting({
    variable: "TUNESMITH_API_KEYS",
    help: "Keys that clients may send, separated by commas, beside those made with `tunesmith keys create`. They have every scope, in the default project. Without any key at all, whoever reaches the port from this machine may use the server.",
    default: "",
    parse: apiKeyList,
  }),
  organization: setting({
    variable: "TUNESMITH_ORGANIZATION",
    help: "The organization in the names of fine-tuned models: ft:base:organization:suffix:id.",
    default: "personal",
    parse: matching(/^[A-Za-z0-9_-]{1,40}$/, "1 to 40 letters, digits, hyphens or underscores"),
  }),
  modelAliases: setting({
    variable: "TUNESMITH_MODEL_ALIASES",
    help: `Names that stand for other models, as name=model separated by commas, added to OpenAI's tunable names, which stand for ${DEFAULT_BASE_MODEL}, and its embedding models, which stand for ${DEFAULT_EMBEDDING_MODEL}.`,
    default: "",
    parse: aliasMap,
  }),
  hubUrl: setting({
    variable: "TUNESMITH_HUB_URL",
    help: "Where base models are downloaded from, in the manner of the Hugging Face hub.",
    default: "https://huggingface.co",
    parse: httpUrl,
  }),
  hubToken: setting({
    variable: "TUNESMITH_HUB_TOKEN",
    help: "Access token for base models that the hub gives only to signed-in users.",
    default: "",
    parse: (text) => (text.trim() === "" ? null : text.trim()),
  }),
  maxUploadBytes: setting({
    variable: "TUNESMITH_MAX_UPLOAD_BYTES",
    help: "Largest uploaded file; OpenAI's limit is the default.",
    unit: "bytes",
    default: String(512 * 2 ** 20),
    parse: wholeNumber(1, Number.MAX_SAFE_INTEGER),
  }),
  maxBodyBytes: setting({
    variable: "TUNESMITH_MAX_BODY_BYTES",
    help: "Largest body of any other request: it is held in memory.",
    unit: "bytes",
    default: String(16 * 2 ** 20),
    parse: wholeNumber(1, 2 ** 30),
  }),
  resultFileEncoding: setting({
    variable: "TUNESMITH_RESULT_FILE_ENCODING",
    help: "How a job's result file is sent: base64, as OpenAI does, or plain csv.",
    default: "base64",
    parse: oneOf(RESULT_FILE_ENCODINGS),
  }),
  emptyJobError: setting({
    variable: "TUNESMITH_EMPTY_JOB_ERROR",
    help: "What a job without an error carries as error: null, or object for the {} that OpenAI sends.",
    default: "null",
    parse: oneOf(EMPTY_ERRORS),
  }),
  pythonGraders: setting({
    variable: "TUNESMITH_PYTHON_GRADERS",
    help: "Whether graders of type python, which are code from requests, run: off; isolated, in Linux namespaces without network and without a view of this machine's files, or not at all where the kernel refuses those; unconfined, also without them, for clients that you trust.",
    default: "off",
    parse: oneOf(PYTHON_GRADER_MODES),
  }),
  pythonInterpreter: setting({
    variable: "TUNESMITH_PYTHON",
    help: "Path of the Python (3.8 or newer) that graders of type python run with; they may import what is installed for it.",
    default: "/usr/bin/python3",
    parse: (text) => resolve(filledText(text)),
  }),
  wordNetDirectory: setting({
    variable: "TUNESMITH_WORDNET",
    help: "Folder of a WordNet database (index.*, data.*, *.exc), for the synonyms of the metric meteor; without one, meteor matches words exactly and by stem.",
    default: "",
    parse: (text) => (text.trim() === "" ? null : resolve(text.trim())),
  }),
  threads: setting({
    variable: "TUNESMITH_THREADS",
    help: "Threads that training computes with, and as many again that answering does; 0 takes one for each core. Results repeat bit by bit only with an equal number.",
    default: "0",
    parse: wholeNumber(0, 1024),
  }),
  trainingMemoryBytes: setting({
    variable: "TUNESMITH_TRAINING_MEMORY_BYTES",
    help: "Memory that one training run may take; 0 takes what is available when it starts. A run that would need more trains in smaller passes or computes its layers twice, and is refused where even that is too much. Set it where several run at a time.",
    unit: "bytes",
    default: "0",
    parse: (text) => {
      const bytes = wholeNumber(0, Number.MAX_SAFE_INTEGER)(text);
      return bytes === 0 ? null : bytes;
    },
  }),
  maxConcurrentJobs: setting({
    variable: "TUNESMITH_MAX_CONCURRENT_JOBS",
    help: "Fine-tuning jobs that train at a time; those of several projects take turns. Each computes with its share of the threads, also while the others' are idle, so one at a time is fastest unless there are cores to spare.",
    default: "1",
    parse: wholeNumber(1, 64),
  }),
  webhookPrivateHosts: setting({
    variable: "TUNESMITH_WEBHOOK_PRIVATE_HOSTS",
    help: "Hosts of this machine's own networks that webhooks may be sent to, by name or address, separated by commas, e.g. localhost. All others must be public, and get https only.",
    default: "",
    parse: (text) =>
      text
        .split(",")
        .map((host) => host.trim().toLowerCase())
        .filter((host) => host !== ""),
  }),
  corsOrigins: setting({
    variable: "TUNESMITH_CORS_ORIGINS",
    help: "Origins of web pages that may use the server from a browser, separated by commas, e.g. https://app.example.com, or * for all. Such a page needs a key, which whoever opens the page can read.",
    default: "",
    parse: originList,
  }),
  logLevel: setting({
    variable: "TUNESMITH_LOG_LEVEL",
    help: `Least important messages to log: ${LOG_LEVELS.join(", ")}. The content of messages and files is never logged.`,
    default: "info",
    parse: oneOf(LOG_LEVELS),
  }),
  queueTimeoutMs: setting({
    variable: "TUNESMITH_QUEUE_TIMEOUT_MS",
    help: "How long a request may wait before anything of its prompt is read. Then it is answered with 429 and the code queue_timeout, as an event where its stream has begun.",
    unit: "milliseconds",
    default: "120000",
    parse: wholeNumber(1, 3_600_000),
  }),
  shutdownGraceMs: setting({
    variable: "TUNESMITH_SHUTDOWN_GRACE_MS",
    help: "Time that requests in flight get to finish when the server is asked to stop.",
    unit: "milliseconds",
    default: "10000",
    parse: wholeNumber(0, 3_600_000),
  }),
};

export type Config = {
  readonly [Name in keyof typeof SETTINGS]: (typeof SETTINGS)[Name] extends Setting<infer T> ? T : never;
};

/**
 * The settings from the environment, with `overrides` (options of the command line) in front. Throws InvalidRequest that
 * names every bad variable.
 */
export function loadConfig(overrides: Partial<Config> = {}, environment: Environment = process.env): Config {
  const faults: string[] = [];
  const entries = Object.entries(SETTINGS).map(([name, entry]) => {
    const { variable, parse } = entry as Setting<unknown>;
    const text = environment[variable] ?? defaultText(entry, environment);
    try {
      return [name, parse(text)];
    } catch (error) {
      if (!(error instanceof Expected)) throw error;
      // A key must not reach a log through a message.
      const got = name === "apiKeys" ? "something else" : `'${text}'`;
      faults.push(`${variable}: expected ${error.message}, but got ${got}.`);
      return [name, undefined];
    }
  });
  if (faults.length > 0) throw new InvalidRequest(`Wrong settings:\n${faults.join("\n")}`);
  const given = Object.entries(overrides).filter(([, value]) => value !== undefined);
  const config = { ...Object.fromEntries(entries), ...Object.fromEntries(given) } as Config;
  return config;
}

/** The text of a default, for loading and for the documentation. */
export function defaultText(entry: Pick<Setting<unknown>, "default">, environment: Environment): string {
  return typeof entry.default === "string" ? entry.default : entry.default(environment);
}

/** What the command line reads to find a server and be let in. The first variable that is set counts. */
export const CLIENT_SETTINGS = {
  baseUrl: {
    variables: ["TUNESMITH_BASE_URL", "OPENAI_BASE_URL"],
    help: "Server that client commands talk to; left out: this machine, at TUNESMITH_PORT.",
  },
  apiKey: {
    variables: ["TUNESMITH_API_KEY", "OPENAI_API_KEY"],
    help: "Key that client commands send to the server.",
  },
} as const;

/** Settings of the client commands. Reads no setting of the server but its port. */
export function loadClientConfig(environment: Environment = process.env): {
  baseUrl: string;
  apiKey: string | null;
} {
  const first = (names: readonly string[]): string | null =>
    names.map((name) => environment[name]?.trim()).find((text) => text !== undefined && text !== "") ?? null;
  const port = environment[SETTINGS.port.variable] ?? defaultText(SETTINGS.port, environment);
  return {
    baseUrl: first(CLIENT_SETTINGS.baseUrl.variables) ?? `http://127.0.0.1:${port}/v1`,
    apiKey: first(CLIENT_SETTINGS.apiKey.variables),
  };
}

/** What `tunesmith migrate openai` reads, as OpenAI's own clients do. The server beside it is found by TUNESMITH_ variables alone. */
export const MIGRATION_SETTINGS = {
  apiKey: {
    variable: "OPENAI_API_KEY",
    help: "Key of the OpenAI project to move. Read from here alone; never written anywhere.",
  },
  baseUrl: { variable: "OPENAI_BASE_URL", help: "OpenAI's API; left out: https://api.openai.com/v1." },
  organization: { variable: "OPENAI_ORG_ID", help: "Organization, for keys that belong to several." },
  project: { variable: "OPENAI_PROJECT_ID", help: "Project, for keys that belong to several." },
} as const;

/** Where a migration goes from and to. OpenAI's key is never sent to the server, nor the server's to OpenAI. */
export function loadMigrationConfig(environment: Environment = process.env): {
  openAi: { apiKey: string | null; baseUrl: string; organization: string | null; project: string | null };
  server: { baseUrl: string; apiKey: string | null };
} {
  const given = (name: string): string | null => environment[name]?.trim() || null;
  const { OPENAI_BASE_URL: _url, OPENAI_API_KEY: _key, ...others } = environment;
  return {
    openAi: {
      apiKey: given(MIGRATION_SETTINGS.apiKey.variable),
      baseUrl: given(MIGRATION_SETTINGS.baseUrl.variable) ?? "https://api.openai.com/v1",
      organization: given(MIGRATION_SETTINGS.organization.variable),
      project: given(MIGRATION_SETTINGS.project.variable),
    },
    server: loadClientConfig(others),
  };
}

/**
 * What a trainer process is started with: this environment, and on Linux large pages for its memory. Training writes gigabytes a
 * second into fresh memory, and asking the kernel for it 4 KB at a time takes a good part of a step. C libraries that do not
 * know the variable pass over it.
 */
export function trainerEnvironment(
  environment: Environment = process.env,
  platform: NodeJS.Platform = process.platform,
): Environment {
  if (platform !== "linux") return environment;
  const given = environment["GLIBC_TUNABLES"];
  const largePages = "glibc.malloc.hugetlb=1";
  if (given?.includes("glibc.malloc.hugetlb") === true) return environment;
  return { ...environment, GLIBC_TUNABLES: given === undefined ? largePages : `${given}:${largePages}` };
}

/** Variables that look like settings and are none: most likely misspelt, so whoever starts the server should hear of them. */
export function unknownVariables(environment: Environment = process.env): string[] {
  const known = new Set<string>([
    ...Object.values(SETTINGS).map(({ variable }) => variable),
    ...Object.values(CLIENT_SETTINGS).flatMap(({ variables }) => variables),
  ]);
  return Object.keys(environment).filter((name) => name.startsWith("TUNESMITH_") && !known.has(name));
}

/** Whether this address can be reached from this machine only. */
export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127(\.[0-9]{1,3}){3}$/.test(host);
}

/** Throws InvalidRequest when others could reach a server without keys. `hasKeys`: there are some in the database. */
export function checkExposure(config: Pick<Config, "host" | "apiKeys">, hasKeys: boolean): void {
  if (isLoopback(config.host) || config.apiKeys.length > 0 || hasKeys) return;
  throw new InvalidRequest(
    `Listening on ${config.host} would let everyone on the network use this server, and there is no API key. Listen on 127.0.0.1 and make an admin key with 'tunesmith keys create --scopes admin', or set TUNESMITH_API_KEYS to one or more keys.`,
    { param: "host" },
  );
}

function setting<T>(entry: Omit<Setting<T>, "unit"> & { unit?: string }): Setting<T> {
  return { ...entry, unit: entry.unit ?? null };
}

/** Every alias and what it stands for: another alias or a base model. No chain runs in a circle. */
function aliasMap(text: string): Readonly<Record<string, string>> {
  const aliases = new Map<string, string>();
  for (const [name, snapshot] of Object.entries(OPENAI_SNAPSHOTS)) {
    aliases.set(name, snapshot).set(snapshot, DEFAULT_BASE_MODEL);
  }
  for (const name of OTHER_TUNABLE_MODELS) aliases.set(name, DEFAULT_BASE_MODEL);
  for (const name of OPENAI_EMBEDDING_MODELS) aliases.set(name, DEFAULT_EMBEDDING_MODEL);
  for (const pair of text.split(",").filter((part) => part.trim() !== "")) {
    const [, name, model] = /^\s*([^=\s]+)\s*=\s*([^=\s]+)\s*$/.exec(pair) ?? [];
    if (name === undefined || model === undefined || name.startsWith("ft:")) {
      throw new Expected("name=model pairs separated by commas, none of them for an ft: name");
    }
    aliases.set(name, model);
  }
  for (const start of aliases.keys()) {
    const seen = new Set<string>();
    for (let name: string | undefined = start; name !== undefined; name = aliases.get(name)) {
      if (seen.has(name)) throw new Expected(`no alias to lead back to itself, as '${name}' does`);
      seen.add(name);
    }
  }
  return Object.fromEntries(aliases);
}

function userCacheFolder(environment: Environment): string {
  if (process.platform === "darwin") return join(homedir(), "Library", "Caches", "tunesmith");
  if (process.platform === "win32") {
    return join(environment["LOCALAPPDATA"] ?? join(homedir(), "AppData", "Local"), "tunesmith");
  }
  return join(environment["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "tunesmith");
}

/** Of this program. */
export function packageVersion(): string {
  const text = readFileSync(new URL("../package.json", import.meta.url), "utf8");
  return (JSON.parse(text) as { version: string }).version;
}
