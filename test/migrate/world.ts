// What a customer of OpenAI has in these tests: two supervised jobs, a preference job, a reinforcement job, one that failed and one that
// runs; files of which one has expired and one is gone; evals and stored completions. And a folder that is removed after each test.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished, vi } from "vitest";
import { KEY, startFakeOpenAi, type FakeFile, type FakeOpenAi, type FakeOptions } from "./fake-openai.ts";

export const OLD_MODEL = "ft:gpt-4o-mini-2024-07-18:acme:tickets:abcd1234";

export function rows(count: number, first = 0): string {
  return Array.from({ length: count }, (_, i) => {
    const category = ["billing", "refund", "account", "delivery"][i % 4] as string;
    return `${JSON.stringify({
      messages: [
        { role: "user", content: `Ticket ${first + i}: my ${category}.` },
        { role: "assistant", content: category },
      ],
    })}\n`;
  }).join("");
}

export function pairs(count: number): string {
  return Array.from(
    { length: count },
    (_, i) =>
      `${JSON.stringify({
        input: { messages: [{ role: "user", content: `Question ${i}` }] },
        preferred_output: [{ role: "assistant", content: "Yes, please." }],
        non_preferred_output: [{ role: "assistant", content: "No." }],
      })}\n`,
  ).join("");
}

export const CSV = "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy\n1,0.5,0.9,,\n";

const file = (id: string, content: string, more: Partial<FakeFile> = {}): FakeFile => ({
  id,
  filename: `${id.slice(5)}.jsonl`,
  purpose: "fine-tune",
  content: Buffer.from(content),
  ...more,
});

/** As today's service sends it: with an empty object for an error. */
export const job = (
  id: string,
  more: Record<string, unknown> = {},
): Record<string, unknown> & { id: string } => ({
  object: "fine_tuning.job",
  id,
  model: "gpt-4o-mini-2024-07-18",
  created_at: 1_750_000_000,
  finished_at: 1_750_000_900,
  fine_tuned_model: null,
  organization_id: "org-acme",
  result_files: [],
  status: "succeeded",
  validation_file: null,
  training_file: "file-train",
  hyperparameters: { n_epochs: 2, batch_size: 2, learning_rate_multiplier: 1.8 },
  trained_tokens: 1000,
  error: {},
  user_provided_suffix: null,
  seed: 7,
  estimated_finish: null,
  integrations: [],
  metadata: null,
  usage_metrics: null,
  shared_with_openai: false,
  eval_id: null,
  method: {
    type: "supervised",
    supervised: { hyperparameters: { n_epochs: 2, batch_size: 2, learning_rate_multiplier: 1.8 } },
  },
  ...more,
});

const dpo = { n_epochs: 1, batch_size: 4, learning_rate_multiplier: 1, beta: 0.2 };

/** Made anew for each test, so that one may change it. */
export function customer(): Omit<FakeOptions, "jobs"> & {
  files: FakeFile[];
  jobs: ReturnType<typeof job>[];
} {
  const numbered = (name: string, count: number) =>
    Array.from({ length: count }, (_, i) => ({
      object: `a.${name}`,
      id: `${name}-${count - i}`,
      message: `m${count - i}`,
    }));
  return {
    files: [
      file("file-train", rows(12)),
      file("file-valid", rows(4, 100)),
      file("file-pairs", pairs(10)),
      file("file-result", CSV, { purpose: "fine-tune-results", filename: "step_metrics.csv" }),
      file("file-unused", rows(1)),
      file("file-expired", rows(3), { expires_at: 1_700_000_001 }),
      file("file-photo", "not for training", { purpose: "vision" }),
    ],
    jobs: [
      job("ftjob-running", { status: "running", finished_at: null }),
      job("ftjob-failed", {
        status: "failed",
        error: {
          code: "invalid_n_examples",
          param: "training_file",
          message: "Training file has 3 example(s)",
        },
        training_file: "file-expired",
      }),
      job("ftjob-rft", {
        model: "o4-mini-2025-04-16",
        fine_tuned_model: "ft:o4-mini-2025-04-16:acme::rftr1234",
        method: { type: "reinforcement", reinforcement: { grader: {}, hyperparameters: { n_epochs: 1 } } },
        hyperparameters: undefined,
      }),
      job("ftjob-dpo", {
        fine_tuned_model: "ft:gpt-4.1-2025-04-14:acme::dpod1234",
        model: "gpt-4.1-2025-04-14",
        training_file: "file-pairs",
        method: { type: "dpo", dpo: { hyperparameters: dpo } },
        hyperparameters: null,
        created_at: 1_750_000_500,
      }),
      job("ftjob-gone", {
        fine_tuned_model: "ft:gpt-4o-2024-08-06:acme::gone1234",
        training_file: "file-deleted",
      }),
      job("ftjob-sft", {
        fine_tuned_model: OLD_MODEL,
        validation_file: "file-valid",
        result_files: ["file-result"],
        user_provided_suffix: "tickets",
        metadata: { team: "support" },
        integrations: [{ type: "wandb", wandb: { project: "p" } }],
      }),
    ],
    events: { "ftjob-sft": numbered("ftevent", 5), "ftjob-dpo": numbered("ftevent", 1) },
    checkpoints: { "ftjob-sft": numbered("ftckpt", 3) },
    models: [
      { id: "gpt-4o-mini-2024-07-18", object: "model", created: 1, owned_by: "system" },
      { id: OLD_MODEL, object: "model", created: 1, owned_by: "acme" },
      {
        id: "ft:gpt-4.1-2025-04-14:acme::dpod1234",
        object: "model",
        created: 1,
        owned_by: "acme",
        shutdown_date: "2026-12-24",
      },
      { id: "ft:gpt-9-turbo:acme::what1234", object: "model", created: 1, owned_by: "acme" },
      { id: "ft:gpt-3.5-turbo-0125:acme::turb1234", object: "model", created: 1, owned_by: "acme" },
    ],
    evals: [{ id: "eval_1", name: "Tickets", testing_criteria: [] } as { id: string }],
    runs: { eval_1: numbered("evalrun", 3) },
    completions: numbered("chatcmpl", 5),
    messages: { "chatcmpl-3": [{ id: "chatcmpl-3-0", role: "user", content: "hi" } as { id: string }] },
  };
}

/** A fake that ends with the test, and the environment that leads to it. */
export async function openAi(options: FakeOptions = customer()): Promise<FakeOpenAi> {
  const fake = await startFakeOpenAi(options);
  onTestFinished(async () => {
    vi.unstubAllEnvs();
    await fake.close();
  });
  vi.stubEnv("OPENAI_API_KEY", KEY);
  vi.stubEnv("OPENAI_BASE_URL", fake.baseUrl);
  return fake;
}

export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "tunesmith-migrate-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }));
  return folder;
}
