// A home folder as a company's after a year: 100,000 files with their bytes, 10,000 jobs, 1,000,000 events, 30,000 checkpoints, 300
// living models and 1,000 batches. Rows go straight into SQLite, 10,000 a transaction, without flushing; the server under test then
// opens the folder as any other.
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import Sqlite from "libsql";
import { openDatabase } from "../src/store/database.ts";
import { DEFAULT_PROJECT, newId } from "../src/wire/ids.ts";

export interface HomeSize {
  files: number;
  jobs: number;
  events: number;
}

/** What the load names. */
export interface BuiltHome {
  /** Oldest first. */
  files: string[];
  jobs: string[];
  /** Events of the job that has a tenth of all: about the longest run there is. */
  longJob: string;
  longJobEvents: string[];
  models: string[];
  batches: string[];
}

const ROWS_A_TRANSACTION = 10_000;
const CONTENT = '{"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"Hello"}]}\n';
const SHA256 = "0".repeat(64);
const BASE_MODEL = "smollm2-135m-instruct";
const START = Math.floor(Date.now() / 1000) - 30_000_000;
const LIVING_JOBS = 100;
const BATCHES = 1_000;
/** Every hundredth file is of another purpose than the rest, every thousandth job has another project in its metadata. */
const RARE_FILES = 100;
const RARE_JOBS = 1_000;

export async function buildHome(home: string, size: HomeSize): Promise<BuiltHome> {
  await mkdir(home, { recursive: true });
  const path = join(home, "tunesmith.db");
  await (await openDatabase(path)).destroy();
  const sqlite = new Sqlite(path);
  sqlite.exec("PRAGMA synchronous = OFF");
  const files = Array.from({ length: size.files }, () => newId("file"));
  insertAll(sqlite, "files", files, (id, index) => ({
    id,
    project_id: DEFAULT_PROJECT,
    created_at: START + index,
    bytes: CONTENT.length,
    filename: `train-${index}.jsonl`,
    purpose: index % RARE_FILES === 0 ? "batch" : "fine-tune",
    sha256: SHA256,
  }));
  await writeBlobs(join(home, "files"), files);
  const jobs = Array.from({ length: size.jobs }, () => newId("job"));
  const modelOf = (job: number, end: string) =>
    `ft:${BASE_MODEL}:personal::${String(job).padStart(8, "0")}${end}`;
  insertAll(sqlite, "fine_tuning_jobs", jobs, (id, index) => ({
    id,
    project_id: DEFAULT_PROJECT,
    created_at: START + index,
    finished_at: START + index + 600,
    status: "succeeded",
    model: BASE_MODEL,
    base_model: BASE_MODEL,
    training_file: files[index % files.length],
    seed: index,
    hyperparameters: JSON.stringify({ n_epochs: 3, batch_size: 4, learning_rate_multiplier: 1.8 }),
    metadata: JSON.stringify(metadataOf(index)),
    trained_tokens: 100_000,
    fine_tuned_model: modelOf(index, ""),
    cleaned_up: 1,
  }));
  const pairs = jobs.flatMap((_, index) =>
    Object.entries(metadataOf(index)).map(([key, value]) => ({ sequence: index + 1, key, value })),
  );
  insertAll(sqlite, "fine_tuning_job_metadata", pairs, (pair) => ({ ...pair, project_id: DEFAULT_PROJECT }));
  const [longJob = ""] = jobs;
  const longEvents = Math.floor(size.events / 10);
  const events = Array.from({ length: size.events }, () => newId("event"));
  insertAll(sqlite, "fine_tuning_events", events, (id, index) => ({
    id,
    job_id: index < longEvents ? longJob : jobs[index % jobs.length],
    created_at: START + index,
    level: "info",
    type: "metrics",
    message: `Step ${index}/${size.events}: training loss=0.52`,
    data: JSON.stringify({ step: index, train_loss: 0.523, train_mean_token_accuracy: 0.87 }),
  }));
  const checkpoints = jobs.flatMap((job, index) => [1, 2, 3].map((step) => ({ job, index, step })));
  insertAll(sqlite, "fine_tuning_checkpoints", checkpoints, ({ job, index, step }) => ({
    id: newId("checkpoint"),
    job_id: job,
    created_at: START + index,
    step,
    model: modelOf(index, step === 3 ? "" : `:ckpt-step-${step}`),
    metrics: JSON.stringify({ step, train_loss: 0.5 }),
  }));
  insertAll(sqlite, "models", checkpoints, ({ job, index, step }) => ({
    id: modelOf(index, step === 3 ? "" : `:ckpt-step-${step}`),
    project_id: DEFAULT_PROJECT,
    job_id: job,
    created_at: START + index,
    owned_by: "personal",
    base_model: BASE_MODEL,
    requested_model: BASE_MODEL,
    adapter_directory: `jobs/${job}/adapter`,
    deleted_at: index < jobs.length - LIVING_JOBS ? START + index : null,
  }));
  const batches = Array.from({ length: BATCHES }, () => newId("batch"));
  insertAll(sqlite, "batches", batches, (id, index) => ({
    id,
    project_id: DEFAULT_PROJECT,
    created_at: START + index,
    endpoint: "/v1/chat/completions",
    input_file: files[index % files.length],
    output_ttl_seconds: 2_592_000,
    status: "completed",
    expires_at: START + index + 86_400,
    completed_at: START + index + 60,
    request_counts: JSON.stringify({ total: 100, completed: 100, failed: 0 }),
    usage: JSON.stringify({
      input_tokens: 1,
      input_tokens_details: { cached_tokens: 0 },
      output_tokens: 1,
      output_tokens_details: { reasoning_tokens: 0 },
      total_tokens: 2,
    }),
  }));
  sqlite.exec("PRAGMA wal_checkpoint(TRUNCATE)");
  sqlite.close();
  return {
    files,
    jobs,
    longJob,
    longJobEvents: events.slice(0, longEvents),
    models: Array.from({ length: Math.min(LIVING_JOBS, jobs.length) }, (_, index) =>
      modelOf(jobs.length - 1 - index, ""),
    ),
    batches,
  };
}

const metadataOf = (job: number) => ({
  team: job % RARE_JOBS === 0 ? "rare" : "support",
  run: String(job),
});

function insertAll<T>(
  sqlite: Sqlite.Database,
  table: string,
  items: readonly T[],
  rowOf: (item: T, index: number) => Record<string, string | number | null | undefined>,
): void {
  const [first] = items;
  if (first === undefined) return;
  const columns = Object.keys(rowOf(first, 0));
  const statement = sqlite.prepare(
    `INSERT INTO ${table} (${columns.join(", ")}) VALUES (${columns.map(() => "?").join(", ")})`,
  );
  for (let start = 0; start < items.length; start += ROWS_A_TRANSACTION) {
    sqlite.exec("BEGIN");
    items.slice(start, start + ROWS_A_TRANSACTION).forEach((item, offset) => {
      const row = rowOf(item, start + offset);
      statement.run(...columns.map((column) => row[column] ?? null));
    });
    sqlite.exec("COMMIT");
  }
}

async function writeBlobs(directory: string, ids: readonly string[]): Promise<void> {
  await mkdir(directory, { recursive: true });
  for (let start = 0; start < ids.length; start += 500) {
    await Promise.all(ids.slice(start, start + 500).map((id) => writeFile(join(directory, id), CONTENT)));
  }
}
