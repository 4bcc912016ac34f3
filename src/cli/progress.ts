// Progress bars: of training (step, loss, tokens per second, time left) and of a download. Null where no terminal shows them.
import type { SingleBar } from "cli-progress";
import { formatDuration, type Terminal } from "./terminal.ts";

export interface Progress {
  /** Shows a step from the data of a metrics event. */
  update(metrics: Record<string, unknown>): void;
  /** Prints whole lines above the bar. */
  print(lines: string): void;
  stop(): void;
}

export async function createProgress(terminal: Terminal): Promise<Progress | null> {
  const bar = await createBar(terminal, "[{bar}] step {value}/{total}{details}");
  if (bar === null) return null;
  let running = false;

  const stop = (): void => {
    if (running) bar.stop();
    running = false;
  };

  return {
    update(metrics) {
      const step = numberOf(metrics, "step");
      const totalSteps = numberOf(metrics, "total_steps");
      if (step === null || totalSteps === null) return;
      const payload = { details: details(metrics) };
      if (running) bar.update(step, payload);
      else bar.start(totalSteps, step, payload);
      running = true;
    },
    print(lines) {
      // The bar stays where it is as a finished line; the next step starts a new one below.
      stop();
      terminal.stdout.write(lines);
    },
    stop,
  };
}

/** A bar over the bytes of a download. */
export async function createByteProgress(
  terminal: Terminal,
  name: string,
  now: () => number = Date.now,
): Promise<{ update(doneBytes: number, totalBytes: number): void; stop(): void } | null> {
  const bar = await createBar(terminal, "[{bar}] {name} {percentage}% of {megabytes} MB{left}");
  if (bar === null) return null;
  let running = false;
  /** Bytes of an earlier download say nothing of this one's pace. */
  let start = { bytes: 0, atMs: 0 };
  return {
    update(doneBytes, totalBytes) {
      if (!running) start = { bytes: doneBytes, atMs: now() };
      const left = timeLeft(now() - start.atMs, doneBytes - start.bytes, totalBytes - doneBytes);
      if (running) bar.update(doneBytes, { left });
      else bar.start(totalBytes, doneBytes, { name, left, megabytes: Math.round(totalBytes / 2 ** 20) });
      running = true;
    },
    stop() {
      if (running) bar.stop();
      running = false;
    },
  };
}

/** A bar over things that are counted; their number may grow meanwhile. */
export async function createCountProgress(
  terminal: Terminal,
  what: string,
): Promise<{ update(done: number, total: number, details?: string): void; stop(): void } | null> {
  const bar = await createBar(terminal, "[{bar}] {value}/{total} {what}{details}");
  if (bar === null) return null;
  let running = false;
  return {
    update(done, total, details = "") {
      if (!running) bar.start(total, done, { what, details });
      running = true;
      bar.setTotal(total);
      bar.update(done, { details });
    },
    stop() {
      if (running) bar.stop();
      running = false;
    },
  };
}

/** A pace taken over less than this, in milliseconds, says little of the rest. */
const SHORTEST_PACE_MS = 1_000;

/** ", 3m05s left" at the pace so far; nothing as long as there is none. */
function timeLeft(elapsedMs: number, doneBytes: number, leftBytes: number): string {
  if (elapsedMs < SHORTEST_PACE_MS || doneBytes <= 0 || leftBytes <= 0) return "";
  return `, ${formatDuration(((elapsedMs / doneBytes) * leftBytes) / 1000)} left`;
}

async function createBar(terminal: Terminal, format: string): Promise<SingleBar | null> {
  if (terminal.stdout.isTTY !== true) return null;
  // Loaded here, because most commands never draw.
  const { default: cliProgress } = await import("cli-progress");
  return new cliProgress.SingleBar({
    stream: terminal.stdout,
    format,
    barsize: 24,
    barCompleteChar: "=",
    barIncompleteChar: " ",
    hideCursor: true,
    // The command ends the process in order and gives the cursor back by stop().
    gracefulExit: false,
  });
}

/** ", loss 1.234, 231 tokens/s, 3m05s left", with what the server knows. */
function details(metrics: Record<string, unknown>): string {
  const loss = numberOf(metrics, "train_loss");
  const speed = numberOf(metrics, "tokens_per_second");
  const secondsLeft = numberOf(metrics, "seconds_left");
  return [
    loss === null ? "" : `, loss ${loss.toFixed(3)}`,
    speed === null ? "" : `, ${Math.round(speed)} tokens/s`,
    secondsLeft === null ? "" : `, ${formatDuration(secondsLeft)} left`,
  ].join("");
}

function numberOf(metrics: Record<string, unknown>, name: string): number | null {
  const value = metrics[name];
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}
