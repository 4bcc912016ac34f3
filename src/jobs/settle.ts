// The end of a job that succeeded: names for the model and its checkpoints, the result file, and one transaction that shows
// them all. It knows no trainer process.
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { basename, join, relative } from "node:path";
import type { BlobStore } from "../store/blobs.ts";
import type { FinishedJob, FineTuningQueue, Lease } from "../store/fine-tuning-queue.ts";
import type { Job } from "../store/fine-tuning-rows.ts";
import type { NewModel } from "../store/models.ts";
import { jobPaths, KEPT_EPOCHS } from "../training/job-directory.ts";
import { newId } from "../wire/ids.ts";
import { newModelName } from "../wire/model-names.ts";
import { LeaseLost } from "./lease-lost.ts";
import type { TrainingOutcome } from "./train.ts";
import { toWireMetrics } from "./trainer-events.ts";

const RESULT_FILENAME = "step_metrics.csv";

export interface SettleOptions {
  queue: FineTuningQueue;
  blobs: BlobStore;
  homeDirectory: string;
  organization: string;
  job: Job;
  lease: Lease;
  directory: string;
  outcome: TrainingOutcome;
}

/** Ends the job as succeeded. Throws LeaseLost, leaving nothing behind, when it is no longer ours. */
export async function settleSucceeded(options: SettleOptions): Promise<void> {
  const { queue, blobs, job, lease, directory, outcome } = options;
  const kept = outcome.epochCheckpoints.slice(-KEPT_EPOCHS);
  const last = kept.at(-1);
  if (last === undefined) {
    throw new Error(
      `internal: the trainer of ${job.id} succeeded without a checkpoint at the end of an epoch`,
    );
  }
  const model = newModel(options, jobPaths(directory).adapter);
  const checkpoints: FinishedJob["checkpoints"] = kept.map((checkpoint) => ({
    step: checkpoint.step,
    model:
      checkpoint === last
        ? model
        : newModel(
            options,
            join(jobPaths(directory).checkpoints, basename(checkpoint.directory)),
            checkpoint.step,
          ),
    metrics: toWireMetrics(checkpoint.metrics),
  }));
  const result = jobPaths(directory).result;
  const fileId = newId("file");
  const { size } = await stat(result);
  const written = await blobs.write(fileId, createReadStream(result), { maxBytes: size });
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

function newModel(options: SettleOptions, adapter: string, checkpointStep?: number): NewModel {
  const { job, organization, homeDirectory } = options;
  const id = newModelName({
    base: job.model,
    organization,
    suffix: job.suffix,
    ...(checkpointStep === undefined ? {} : { checkpointStep }),
  });
  return {
    id,
    ownedBy: organization,
    baseModel: job.baseModel,
    requestedModel: job.model,
    adapterDirectory: relative(homeDirectory, adapter),
  };
}
