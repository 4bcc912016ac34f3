// POST /tunesmith/preflight: what would be said of a job before it starts, as JSON. The work itself is passed in: it is the
// jobs' own.
import type { FastifyReply, FastifyRequest } from "fastify";
import type { DataReport, FileReport, PreflightReport } from "../data/preflight/report.ts";
import { Unavailable } from "../errors.ts";
import { OPENAI_PRICES_FROM, OPENAI_TRAINING_PRICES } from "../wire/openai-prices.ts";
import type { BlobStore } from "../store/blobs.ts";
import type { StoredFile } from "../store/files.ts";
import { requestedHyperparameters, requestedMethod } from "../wire/fine-tuning.ts";
import type { CreateJobRequest, JobMethod, RequestedHyperparameters } from "../wire/fine-tuning.ts";
import { preflightRequest } from "../wire/preflight.ts";
import type { PreflightFile, PreflightObject } from "../wire/preflight.ts";
import { parseRequest } from "../wire/validation.ts";
import { whenClientLeaves } from "./chat.ts";
import type { ResolvedBase } from "./model-directory.ts";

/** What is to be judged, resolved to what lies on disk. */
export interface PreflightJob {
  method: JobMethod;
  trainingFile: string;
  validationFile: string | null;
  baseModel: string;
  /** What the job would go on from: a fine-tuned model and the folder of its adapter. */
  initial: { model: string; adapterDirectory: string } | null;
  hyperparameters: RequestedHyperparameters;
  signal: AbortSignal;
}

export type RunPreflight = (job: PreflightJob) => Promise<PreflightReport>;

/** Each is a process of its own that reads a file whole and takes a core. */
const MAX_PREFLIGHTS = 2;

export function preflightRoutes(parts: {
  runPreflight: RunPreflight;
  /** Finds files and base model as the creation of a job does; throws as it does. */
  resolveJob: (
    projectId: string,
    body: CreateJobRequest,
  ) => Promise<{
    training: StoredFile;
    validation: StoredFile | null;
    base: ResolvedBase & { adapterDirectory: string | null };
  }>;
  blobs: BlobStore;
  stopping: AbortSignal;
}) {
  let running = 0;
  return {
    run: async (request: FastifyRequest, reply: FastifyReply): Promise<PreflightObject> => {
      const body = parseRequest(preflightRequest, request.body);
      const { training, validation, base } = await parts.resolveJob(request.project, body);
      if (running >= MAX_PREFLIGHTS) {
        throw new Unavailable(
          `This server checks ${MAX_PREFLIGHTS} jobs at a time and is at it. Send the request again in a moment.`,
        );
      }
      running += 1;
      try {
        return toPreflightObject(
          await parts.runPreflight({
            method: requestedMethod(body),
            trainingFile: parts.blobs.path(training.id),
            validationFile: validation === null ? null : parts.blobs.path(validation.id),
            baseModel: base.baseModel,
            initial:
              base.adapterDirectory === null
                ? null
                : { model: base.name, adapterDirectory: base.adapterDirectory },
            hyperparameters: requestedHyperparameters(body),
            signal: AbortSignal.any([parts.stopping, whenClientLeaves(reply)]),
          }),
        );
      } finally {
        running -= 1;
      }
    },
  };
}

export function toPreflightObject(report: PreflightReport): PreflightObject {
  return {
    object: "tunesmith.preflight",
    base_model: report.baseModel,
    trainable: report.faultCount === 0 && report.findings.every(({ severity }) => severity !== "error"),
    fault_count: report.faultCount,
    faults: report.faults.map(({ file, line, message, text, found, expected, fix }) => ({
      param: file,
      line,
      message_index: message,
      message: text,
      found,
      expected,
      fix,
    })),
    findings: report.findings.map(toFinding),
    files: report.files.map(toFile),
    cost: toCost(report),
    limits: report.limits,
  };
}

function toFinding({ kind, severity, file, message, fix, count, places }: DataReport["findings"][number]) {
  return { kind, severity, param: file, message, fix, count, places };
}

function toFile(file: FileReport): PreflightFile {
  const { tokens } = file;
  return {
    param: file.file,
    bytes: file.bytes,
    examples: file.examples,
    bad_lines: file.badLines,
    messages_per_row: file.messagesPerRow,
    answer_characters: file.answerCharacters,
    labels: file.labels,
    tokens:
      tokens === null
        ? null
        : {
            per_row: tokens.tokensPerRow,
            supervised_per_row: tokens.supervisedPerRow,
            total: tokens.tokens,
            supervised: tokens.supervisedTokens,
            trained_tokens_per_epoch: tokens.trainedTokens,
            max_length: tokens.maxLength,
            truncated_rows: tokens.truncatedRows,
            truncated_tokens: tokens.truncatedTokens,
            end_token_rows: tokens.endTokenRows,
            longest: tokens.longest,
          },
  };
}

function toCost({ cost }: PreflightReport): PreflightObject["cost"] {
  if (cost === null) return null;
  const dollars = (usdPerMillion: number) => Math.round((usdPerMillion * cost.trainedTokens) / 10_000) / 100;
  return {
    n_epochs: cost.epochs,
    batch_size: cost.batchSize,
    learning_rate_multiplier: cost.learningRateMultiplier,
    steps: cost.steps,
    trainable_parameters: cost.trainableParameters,
    base_parameters: cost.baseParameters,
    adapter_bytes: cost.adapterBytes,
    trained_tokens: cost.trainedTokens,
    memory_bytes: cost.memoryBytes,
    full_speed_memory_bytes: cost.fullSpeedMemoryBytes,
    machine_memory_bytes: cost.machineMemoryBytes,
    seconds: cost.seconds,
    seconds_from: cost.secondsFrom,
    openai: {
      source: OPENAI_PRICES_FROM,
      prices: Object.entries(OPENAI_TRAINING_PRICES).map(([model, usdPerMillion]) => ({
        model,
        usd_per_million: usdPerMillion,
        usd: dollars(usdPerMillion),
      })),
    },
  };
}
