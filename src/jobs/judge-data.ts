// A job's files before it starts: may it be trained on them, how many examples are there, and what is odd about them. Each file is read
// once for all of it.
import { countExamples } from "../data/dataset.ts";
import { checkFiles } from "../data/preflight/check-files.ts";
import type { Finding } from "../data/preflight/report.ts";
import { messageOf, TunesmithError } from "../errors.ts";
import type { TrainingMethod } from "../training/job-directory.ts";
import type { Logger } from "./worker.ts";

export interface DataToJudge {
  jobId: string;
  method: TrainingMethod;
  trainingFile: string;
  validationFile: string | null;
  signal: AbortSignal;
}

export interface JudgedData {
  /** Of the training file. */
  examples: number;
  /** What is worth a warning. */
  warnings: Finding[];
}

export type JudgeData = (data: DataToJudge) => Promise<JudgedData>;

/**
 * Characters of a file that are looked at for warnings before a job starts: 10,000 ordinary rows, and seconds. `tunesmith check`
 * looks at all.
 */
const MAX_CHECKED_CHARACTERS = 8_000_000;

/**
 * Throws DatasetError where a file cannot be trained on, Unavailable, Cancelled. A fault of a rule about oddities is the log's, not
 * the job's: then there are no warnings.
 */
export function createJudge(logger: Logger): JudgeData {
  return async ({ jobId, method, trainingFile, validationFile, signal }) => {
    try {
      const { files, findings } = await checkFiles({
        ...{ method, trainingFile, validationFile, signal },
        maxCheckedCharacters: MAX_CHECKED_CHARACTERS,
        refuseFaults: true,
      });
      const warnings = findings.filter(({ severity }) => severity === "warning");
      return { examples: files[0]?.examples ?? 0, warnings };
    } catch (error) {
      if (error instanceof TunesmithError || signal.aborted) throw error;
      logger.warn({ job: jobId, error: messageOf(error) }, "The data could not be looked at for warnings.");
    }
    const count = (path: string, param: "training_file" | "validation_file") =>
      countExamples(path, { param, method, signal });
    const examples = await count(trainingFile, "training_file");
    if (validationFile !== null) await count(validationFile, "validation_file");
    return { examples, warnings: [] };
  };
}
