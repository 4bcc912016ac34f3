// What a job leaves to its owner. One that succeeded: names for the model and its checkpoints, the result file, and one
// transaction that shows them all. One that failed or was cancelled: its checkpoints. It knows no trainer process.
import { createReadStream } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { basename, join, relative } from "node:path";
import { OutOfSpace } from "../errors.ts";
import type { BlobStore } from "../store/blobs.ts";
import type { FineTuningQueue } from "../store/fine-tuning-queue.ts";
import type { FinishedJob, Job, NewEvent } from "../store/fine-tuning-rows.ts";
import type { Lease } from "../store/leases.ts";
import type { NewModel } from "../store/models.ts";
import { bestCheckpoint, keptCheckpoints } from "../training/best-checkpoint.ts";
import { jobPaths } from "../training/job-directory.ts";
import { newId } from "../wire/ids.ts";
import { baseInName, newModelName } from "../wire/model-names.ts";
import { LeaseLost } from "./lease-lost.ts";
import type { TrainingOutcome } from "./train.ts";
import { createTrainerEventReader, toWireMetrics } from "./trainer-events.ts";

const RESULT_FILENAME = "step_metrics.csv";

export interface SettleOptions extends Naming {
  queue: FineTuningQueue;
  blobs: BlobStore;
  lease: Lease;
  outcome: TrainingOutcome;
}

/** Ends the job as succeeded. Throws LeaseLost, leaving nothing behind, when it is no longer ours. */
export async function settleSucceeded(options: SettleOptions): Promise<void> {
  const { queue, blobs, job, lease, directory, outcome } = options;
  const kept = keptCheckpoints(outcome.epochCheckpoints);
  const final = kept.find(({ step }) => step === outcome.succeeded.finalStep) ?? kept.at(-1);
  if (final === undefined) {
    throw new Error(
      `internal: the trainer of ${job.id} succeeded without a checkpoint at the end of an epoch`,
    );
  }
  const model = newModel(options, jobPaths(directory).adapter);
  const best = bestCheckpoint(kept);
  const checkpoints = kept.map((checkpoint) => {
    const shown = newCheckpoint(options, checkpoint, best);
    return checkpoint === final ? { ...shown, model } : shown;
  });
  const result = jobPaths(directory).result;
  const fileId = newId("file");
  const { size } = await stat(result);
  const written = await blobs
    .write(fileId, createReadStream(result), { maxBytes: size })
    .catch((error: unknown) => {
      if (!(error instanceof OutOfSpace)) throw error;
      throw new OutOfSpace(
        `The disk is full, so the result file of this job could not be stored. Free some space.`,
        { code: "out_of_space", cause: error },
      );
    });
  const finished = await queue.finishSucceeded(lease, {
    model,
    resultFile: {
      id: fileId,
      filename: RESULT_FILENAME,
      purpose: "fine-tune-results",
      expiresAt: null,
      ...written,
    },
    trainedTokens: outcome.succeeded.trainedTokens,
    checkpoints,
    events: [
      ...checkpoints.filter((checkpoint) => checkpoint.best).map(bestEvent),
      { key: "model", message: `New fine-tuned model created: ${model.id}` },
      {
        key: "succeeded",
        message: "The job has successfully completed",
        // Ours: what the training process took.
        data: { seconds: outcome.succeeded.seconds, peak_rss_bytes: outcome.succeeded.peakRssBytes },
      },
    ],
  });
  if (!finished) {
    await blobs.delete(fileId);
    throw new LeaseLost();
  }
}

/**
 * Makes models of what a failed or cancelled job had finished: the checkpoints at the ends of its last epochs. Hours of
 * training are worth keeping, and none of them is half of anything. Can be repeated.
 */
export async function keepCheckpoints(options: { queue: FineTuningQueue } & Naming): Promise<void> {
  const { queue, job, directory } = options;
  // Half a line was named in the log when it was first read.
  const events = await createTrainerEventReader(jobPaths(directory).events, () => undefined).readNew();
  const onDisk = await readdir(jobPaths(directory).checkpoints).catch((): string[] => []);
  const made = new Map<number, MadeCheckpoint>();
  for (const event of events) {
    if (event.type !== "checkpoint" || !event.epochEnd) continue;
    if (onDisk.includes(basename(event.directory))) made.set(event.step, event);
  }
  const inOrder = [...made.values()].sort((a, b) => a.step - b.step);
  const best = bestCheckpoint(inOrder);
  const kept = keptCheckpoints(inOrder).map((checkpoint) => newCheckpoint(options, checkpoint, best));
  if (kept.length > 0) await queue.keepCheckpoints(job.id, kept);
}

/** What names are made of. */
interface Naming {
  homeDirectory: string;
  organization: string;
  job: Job;
  directory: string;
}

type MadeCheckpoint = TrainingOutcome["epochCheckpoints"][number];

function bestEvent({ step, model, metrics }: FinishedJob["checkpoints"][number]): NewEvent {
  const loss = metrics.full_valid_loss ?? NaN;
  return {
    key: "best",
    message: `Best checkpoint: ${model.id}, made at step ${step}, has the lowest full validation loss, ${loss.toFixed(2)}`,
    data: { step, model: model.id, full_valid_loss: loss },
  };
}

/** A checkpoint under a name of its own. */
function newCheckpoint(
  naming: Naming,
  checkpoint: MadeCheckpoint,
  best: MadeCheckpoint | null,
): FinishedJob["checkpoints"][number] {
  const { step, metrics } = checkpoint;
  const adapter = join(jobPaths(naming.directory).checkpoints, basename(checkpoint.directory));
  const model = newModel(naming, adapter, step);
  return { step, model, metrics: toWireMetrics(metrics), best: checkpoint === best };
}

function newModel(options: Naming, adapter: string, checkpointStep?: number): NewModel {
  const { job, organization, homeDirectory } = options;
  const base = baseInName(job.model);
  const id = newModelName({
    base,
    organization,
    suffix: job.suffix,
    ...(checkpointStep === undefined ? {} : { checkpointStep }),
  });
  return {
    id,
    ownedBy: organization,
    baseModel: job.baseModel,
    requestedModel: base,
    adapterDirectory: relative(homeDirectory, adapter),
  };
}
