// A trainer that trains nothing: it keeps the job directory's contract, and misbehaves as the file fake.json in the
// directory says. Run as a process of its own, like the real one.
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import {
  jobPaths,
  TRAINER_EXIT,
  type JobRecipe,
  type StepMetrics,
  type TrainerEvent,
} from "../../src/training/job-directory.ts";

export interface Instructions {
  steps?: number;
  stepsPerEpoch?: number;
  stepMs?: number;
  /** Dies by SIGKILL after this step's line, in the first `lives` lives only. */
  dieAt?: { step: number; lives: number };
  /** As dieAt, but half-way through writing the line. */
  halfLineAt?: { step: number; lives: number };
  /** Checkpoints only up to here: later deaths make no progress. */
  lastCheckpoint?: number;
  /** Dies by SIGKILL after so many steps and the checkpoint of the last, which it does not report. */
  stepsPerLife?: number;
  failAt?: { step: number; error: { code: string; param: string | null; message: string } };
  /** Finds the disk full at this step, in the first `lives` lives only; `says`: it has room to report that. */
  noRoomAt?: { step: number; lives: number; says?: string };
  /** Stays at this step for ever. */
  hangAt?: number;
  /** Full validation losses by the step; left out: falling. */
  fullValidLosses?: Record<number, number>;
  /** The step whose weights the adapter has. */
  finalStep?: number;
  /** Neither SIGTERM nor the end of the server ends it. */
  stubborn?: boolean;
}

const directory = process.argv[2] ?? "";
const paths = jobPaths(directory);
const recipe = JSON.parse(readFileSync(paths.recipe, "utf8")) as JobRecipe;
const instructionsPath = join(directory, "fake.json");
const instructions = (
  existsSync(instructionsPath) ? JSON.parse(readFileSync(instructionsPath, "utf8")) : {}
) as Instructions;
const { steps = 6, stepsPerEpoch = 2, stepMs = 5, stubborn = false } = instructions;
const livesPath = join(directory, "lives.txt");
appendFileSync(livesPath, `${process.pid}\n`);
const life = readFileSync(livesPath, "utf8").split("\n").length - 1;

let stopping = false;
process.on("SIGTERM", () => (stopping = true));
process.on("disconnect", () => (stopping = true));

function report(event: TrainerEvent): void {
  appendFileSync(paths.events, `${JSON.stringify(event)}\n`);
}

function metricsOf(step: number): StepMetrics {
  const endsEpoch = step % stepsPerEpoch === 0;
  return {
    step,
    totalSteps: steps,
    trainLoss: 2 / step,
    trainMeanTokenAccuracy: step / steps,
    ...(recipe.validationData === null ? {} : { validLoss: 3 / step, validMeanTokenAccuracy: 0.5 }),
    ...(endsEpoch
      ? { fullValidLoss: instructions.fullValidLosses?.[step] ?? 4 / step, fullValidMeanTokenAccuracy: 0.25 }
      : {}),
  };
}

function lastCheckpoint(): number {
  const names = existsSync(paths.checkpoints) ? readdirSync(paths.checkpoints) : [];
  return Math.max(0, ...names.map((name) => Number(name.replace("step-", ""))));
}

function writeAdapter(path: string, step: number): void {
  mkdirSync(path, { recursive: true });
  writeFileSync(join(path, "adapter_model.safetensors"), `weights after step ${step}`);
}

writeFileSync(paths.lock, String(process.pid));
const at = Date.now();
const done = lastCheckpoint();
if (done > 0) report({ type: "resumed", at, step: done });
else
  report({ type: "started", at, totalSteps: steps, trainableParameters: 1, baseParameters: 2, examples: 3 });

for (let step = done + 1; step <= steps; step += 1) {
  await delay(stepMs);
  while ((stopping && stubborn) || instructions.hangAt === step) {
    await delay(20);
    if (stopping && !stubborn) break;
  }
  if (stopping) process.exit(TRAINER_EXIT.interrupted);
  const metrics = metricsOf(step);
  const { failAt, dieAt, halfLineAt } = instructions;
  const { noRoomAt } = instructions;
  if (noRoomAt?.step === step && life <= noRoomAt.lives) {
    if (noRoomAt.says !== undefined) report({ type: "no_room", at, message: noRoomAt.says });
    process.exit(TRAINER_EXIT.outOfSpace);
  }
  if (failAt?.step === step) {
    report({ type: "failed", at, error: failAt.error });
    process.exit(TRAINER_EXIT.failed);
  }
  if (halfLineAt?.step === step && life <= halfLineAt.lives) {
    appendFileSync(paths.events, '{"type":"metrics","st');
    process.kill(process.pid, "SIGKILL");
    await delay(10_000);
  }
  report({ type: "metrics", at, tokensPerSecond: 100, secondsLeft: steps - step, ...metrics });
  if (dieAt?.step === step && life <= dieAt.lives) {
    process.kill(process.pid, "SIGKILL");
    await delay(10_000);
  }
  if (step > (instructions.lastCheckpoint ?? Infinity)) continue;
  const checkpoint = join("checkpoints", `step-${step}`);
  writeAdapter(join(directory, checkpoint), step);
  const epochEnd = step % stepsPerEpoch === 0;
  if (step - done === instructions.stepsPerLife && !epochEnd) {
    process.kill(process.pid, "SIGKILL");
    await delay(10_000);
  }
  report({ type: "checkpoint", at, step, directory: checkpoint, epochEnd, metrics });
}
const { finalStep = steps } = instructions;
writeAdapter(paths.adapter, finalStep);
writeFileSync(paths.result, "step,train_loss\n1,2.00000\n");
report({ type: "succeeded", at, trainedTokens: 1234, finalStep, seconds: 1, peakRssBytes: 1 });
rmSync(paths.lock, { force: true });
process.exit(TRAINER_EXIT.succeeded);
