// The progress bars, as a terminal gets them.
import { PassThrough } from "node:stream";
import { afterEach, expect, test } from "vitest";
import { createByteProgress, createProgress } from "../../src/cli/progress.ts";
import type { Terminal } from "../../src/cli/terminal.ts";
import { startFakeServer, tunesmith } from "./fake-server.ts";

let close: () => Promise<unknown> = async () => undefined;
afterEach(() => close());

/** A terminal, and what it has shown since the last look: lines without what moves the cursor. */
function terminal(isTTY = true) {
  const stdout = Object.assign(new PassThrough(), { isTTY, columns: 200 });
  const streams = { stdin: new PassThrough(), stdout, stderr: new PassThrough() };
  const shown = () => String(stdout.read() ?? "").replaceAll(/\x1b(\[[0-9;?]*[A-Za-z]|[78])|\r/g, "");
  return { terminal: { ...streams, signal: new AbortController().signal } satisfies Terminal, shown };
}

test("training shows step, loss, speed and time left, as far as they are known", async () => {
  const { terminal: target, shown } = terminal();
  const progress = await createProgress(target);
  progress?.update({ step: 3, total_steps: 6 });
  progress?.stop();
  expect(shown()).toContain(`[${"=".repeat(12)}${" ".repeat(12)}] step 3/6\n`);
  progress?.update({
    step: 6,
    total_steps: 6,
    train_loss: 1.2345,
    tokens_per_second: 231.4,
    seconds_left: 185,
  });
  progress?.stop();
  expect(shown()).toContain(`[${"=".repeat(24)}] step 6/6, loss 1.234, 231 tokens/s, 3m05s left\n`);
});

test("a line printed during training stands on its own, above the next bar", async () => {
  const { terminal: target, shown } = terminal();
  const progress = await createProgress(target);
  progress?.update({ step: 1, total_steps: 2 });
  progress?.print("Checkpoint created\n");
  progress?.update({ step: 2, total_steps: 2 });
  progress?.stop();
  expect(shown()).toMatch(/step 1\/2\nCheckpoint created\n.*step 2\/2\n$/s);
});

test("a download says how much of what, and the time left at its own pace", async () => {
  const MB = 2 ** 20;
  const { terminal: target, shown } = terminal();
  let nowMs = 0;
  const progress = await createByteProgress(target, "tiny", () => nowMs);
  // Goes on where an earlier download stopped: those 20 MB took no time.
  for (const [ms, megabytes] of [
    [0, 20],
    [500, 21],
    [10_000, 60],
  ] as const) {
    nowMs = ms;
    progress?.update(megabytes * MB, 100 * MB);
  }
  progress?.stop();
  const text = shown();
  expect(text).toMatch(/] tiny 20% of 100 MB[^,]*] tiny 60% of 100 MB, 10s left\n$/);
  expect(text).not.toMatch(/NF|NaN|\b0s left/);
});

test("no bar where no terminal shows it", async () => {
  const { terminal: target, shown } = terminal(false);
  expect(await createProgress(target)).toBeNull();
  expect(await createByteProgress(target, "tiny")).toBeNull();
  expect(shown()).toBe("");
});

test("a followed job draws its steps as a bar and keeps its other events as lines", async () => {
  const event = (id: number, type: string, message: string, data: object = {}) => ({
    object: "fine_tuning.job.event",
    ...{ id: `ftevent-${id}`, created_at: 1_790_000_000, level: "info", message, type, data },
  });
  const step = { step: 1, total_steps: 2, train_loss: 1.5 };
  const server = await startFakeServer({
    "GET /v1/fine_tuning/jobs/ftjob-1": {
      ...{ id: "ftjob-1", status: "succeeded", trained_tokens: 10, fine_tuned_model: "ft:m:acme::abc" },
      ...{ error: null, result_files: [] },
    },
    "GET /v1/fine_tuning/jobs/ftjob-1/events": {
      data: [
        event(3, "message", "The job has successfully completed"),
        event(2, "metrics", "Step 1/2: training loss=1.50", step),
        event(1, "message", "Fine-tuning job started"),
      ],
      has_more: false,
    },
  });
  close = server.close;
  const words = ["jobs", "follow", "ftjob-1", "--base-url", server.baseUrl];
  const { code, out } = await tunesmith(words, { isTTY: true });
  expect(code).toBe(0);
  expect(out).toContain("] step 1/2, loss 1.500");
  expect(out).not.toContain("Step 1/2: training loss");
  expect(out).toContain("Fine-tuning job started\n");
  expect(out).toMatch(/ftjob-1 succeeded, 10 trained tokens\nft:m:acme::abc\n$/);
});
