// The contract between whoever starts a training run and the trainer process: what stands in a job directory, and the
// types of job.json and events.jsonl. It knows no database, no HTTP and no engine.
//
//   job.json          the fully resolved recipe (JobRecipe), written before the trainer starts, never changed
//   training.jsonl    the training data            validation.jsonl   the validation data, if any
//   initial-adapter/  the adapter that the run starts from, if any
//   reference.json    with DPO: log-probabilities of the starting model, kept so that a resumed run need not compute them again
//   plan.json         how the run fits into memory (memory-plan.ts), chosen by the first trainer and kept by all later ones
//   events.jsonl      what the trainer reports, one TrainerEvent a line, append only
//   checkpoints/step-N/  adapter_model.safetensors, adapter_config.json, optimizer.safetensors, state.json
//                     (step, recipe with data hashes and seed, versions)
//   result.csv        written at the end           adapter/           the final PEFT adapter
//
// Killing the trainer at any byte leaves a directory from which a new trainer goes on to the same final bytes.
import { join } from "node:path";
import { ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE } from "../model/adapter.ts";
import type { LoraTarget } from "../model/lora-targets.ts";

/** The files of an adapter. */
export const ADAPTER_FILES = { config: ADAPTER_CONFIG_FILE, weights: ADAPTER_WEIGHTS_FILE } as const;

export { LORA_TARGETS, type LoraTarget } from "../model/lora-targets.ts";
/** What a killed trainer may leave in a job directory beside the files above. */
export { removeTemporarySiblings } from "../model/atomic-write.ts";

export const TRAINING_METHODS = ["supervised", "dpo"] as const;
export type TrainingMethod = (typeof TRAINING_METHODS)[number];

export interface JobRecipe {
  version: 1;
  jobId: string;
  baseModel: {
    /** Catalogue name, e.g. "smollm2-135m-instruct". */
    id: string;
    /** A Hugging Face folder or a GGUF file. */
    path: string;
    /** sha256 of the weights file (or of the folder's weight files in name order); checked before training. */
    sha256: string;
  };
  method: TrainingMethod;
  hyperparameters: {
    epochs: number;
    /** Examples per optimizer step. */
    batchSize: number;
    learningRateMultiplier: number;
    /** Peak learning rate: the base model's rate times the multiplier. */
    learningRate: number;
    /** Share of all steps spent warming up from 0 to the peak; then linear decay to 0. */
    warmupRatio: number;
    weightDecay: number;
    beta1: number;
    beta2: number;
    epsilon: number;
    /** Gradients are scaled down to this global L2 norm. */
    clipNorm: number;
    /** DPO alone: how strongly the model is held to the reference, the paper's β. */
    beta?: number;
  };
  /** That of the initial adapter, where there is one, but for the dropout. */
  lora: { rank: number; alpha: number; dropout: number; targetModules: LoraTarget[] };
  /** A PEFT adapter whose weights the run starts from; left out: fresh ones, drawn from the seed. */
  initialAdapter?: {
    /** The fine-tuned model or checkpoint it was copied from, which may be gone by now. */
    model: string;
    folder: string;
    /** Of its weights; checked before training. */
    sha256: string;
  };
  /** Ends the run after so many epochs without a lower full validation loss; the final adapter is then the best epoch's. */
  earlyStopping?: { patience: number };
  seed: number;
  /** Tokens; a longer example is cut at its end. */
  maxLength: number;
  trainingData: { file: string; sha256: string };
  validationData: { file: string; sha256: string } | null;
  /** Threads of ONNX Runtime; part of the recipe because results are bitwise equal only for an equal count. */
  threads: number;
}

/** What a training method measures; docs/training.md defines each. */
export const METRIC_NAMES = [
  "Loss",
  "MeanTokenAccuracy",
  "RewardMargin",
  "RewardAccuracy",
  "ChosenLogps",
  "RejectedLogps",
] as const;
export type MetricName = (typeof METRIC_NAMES)[number];

/** Over which examples: the step's before its update; a validation batch; the whole validation file, at epoch ends. */
export const METRIC_SCOPES = ["train", "valid", "fullValid"] as const;
export type MetricScope = (typeof METRIC_SCOPES)[number];

/** Which metrics there are depends on the method and on what the step measured. */
export type StepMetrics = { step: number; totalSteps: number; trainLoss: number } & {
  [Name in `${MetricScope}${MetricName}`]?: number;
};

/**
 * The last epochs whose checkpoints stay, as OpenAI keeps them: each becomes a model, the last of them the job's own. Of the
 * others only the best stays (best-checkpoint.ts); the trainer removes the rest as it goes.
 */
export const KEPT_EPOCHS = 3;

/** One line of events.jsonl. A resumed run repeats the steps after its checkpoint with the same values: readers key metrics by step. */
export type TrainerEvent =
  | {
      type: "started";
      at: number;
      totalSteps: number;
      trainableParameters: number;
      baseParameters: number;
      examples: number;
      lora?: JobRecipe["lora"];
      /** Tokens at which examples are cut: the recipe's, or the model's context where that is shorter. */
      maxLength?: number;
    }
  /** Examples of one file that are longer than the limit and were cut at their end; only where there are any. */
  | {
      type: "truncated";
      at: number;
      param: "training_file" | "validation_file";
      examples: number;
      ofExamples: number;
      /** How many were cut off. */
      tokens: number;
      /** Tokens of an example. */
      maxLength: number;
    }
  /** DPO: the log-probabilities of the starting model are there; only once, unless the file is lost. */
  | { type: "reference"; at: number; pairs: number; seconds: number }
  /** `changedVersions`, e.g. "node v22.1.0 to v24.0.0": the checkpoint was made with others, so bytes may differ from here on. */
  | { type: "resumed"; at: number; step: number; changedVersions?: string[] }
  | ({ type: "metrics"; at: number; tokensPerSecond: number; secondsLeft: number } & StepMetrics)
  | {
      type: "checkpoint";
      at: number;
      step: number;
      directory: string;
      epochEnd: boolean;
      metrics: StepMetrics;
    }
  /** Early stopping ended the run before its last epoch. */
  | { type: "stopped"; at: number; step: number; totalSteps: number; bestStep: number }
  | {
      type: "succeeded";
      at: number;
      trainedTokens: number;
      /** The step whose parameters the adapter has; left out: the last one. */
      finalStep?: number;
      seconds: number;
      peakRssBytes: number;
    }
  /** How the run fits into memory: plan.json, told by every trainer. Bytes are estimates; at full speed they may be the most it can take. */
  | {
      type: "planned";
      at: number;
      passTokens: number;
      wholeStepTokens: number;
      neededBytes: number;
      fullBytes: number;
      availableBytes: number;
    }
  /** There was no room for a file; the trainer has ended, and one that finds room goes on. */
  | { type: "no_room"; at: number; message: string }
  | { type: "failed"; at: number; error: { code: string; param: string | null; message: string } };

/** How the trainer process ends. */
export const TRAINER_EXIT = {
  succeeded: 0,
  /** A "failed" event says why; trying again would fail again. */
  failed: 1,
  /** The disk is full; a "no_room" event says what did not fit, where that fitted. Trying again at once would fail again. */
  outOfSpace: 74,
  /** Asked to stop (SIGTERM, or its parent is gone): a checkpoint is written and a later trainer goes on from it. */
  interrupted: 75,
} as const;

/** Paths inside one job directory. */
export function jobPaths(directory: string) {
  return {
    recipe: join(directory, "job.json"),
    reference: join(directory, "reference.json"),
    plan: join(directory, "plan.json"),
    events: join(directory, "events.jsonl"),
    checkpoints: join(directory, "checkpoints"),
    result: join(directory, "result.csv"),
    adapter: join(directory, "adapter"),
    lock: join(directory, "trainer.pid"),
  };
}
