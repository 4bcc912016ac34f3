// An export in a process of its own: it reads every weight and runs two models, and the server goes on answering meanwhile. This
// file is both ends: what starts the process, and, run as a program, the process itself.
import { randomUUID } from "node:crypto";
import { mkdir, rm } from "node:fs/promises";
import { constants, setPriority } from "node:os";
import { join } from "node:path";
import type { BaseModelCatalogue } from "../api/model-directory.ts";
import type { RunExport } from "../api/model-export.ts";
import { readRecipe } from "../jobs/job-files.ts";
import { currentVersions } from "../training/checkpoint.ts";
import { exportModel, type ExportOptions, type OpenModel } from "../export/export-model.ts";
import { loadDecoderWeights } from "../model/decoder-weights.ts";
import { answerQuestion, askProgram } from "../package-program.ts";
import { toLoadedAdapter } from "../serving/adapter-pool.ts";
import { Generator, isRead, NO_ADAPTER } from "../serving/generator.ts";
import { mostLikely } from "../serving/sampler.ts";

interface Question {
  options: ExportOptions;
  threads: number;
}

/** `exportModel`, elsewhere. Aborting ends the process; what it had written is then under a temporary name beside the folder. */
export async function exportElsewhere(question: Question, signal: AbortSignal): Promise<void> {
  await askProgram("main/export-model", question, {
    signal,
    ended: "The process that makes the export",
    advice: "Free some memory or take a smaller model, and send the request again",
  });
}

/** Exports on their way lie here, each in a folder of its own; nothing in it outlives the server that made it. */
export const exportsDirectory = (homeDirectory: string): string => join(homeDirectory, "exports");

/** How the server makes an export: the job's recipe and prompts with it, in a folder that the caller removes. */
export function createRunExport(parts: {
  homeDirectory: string;
  threads: number;
  catalogue: BaseModelCatalogue;
}): RunExport {
  return async ({ model, format, precision, promptFiles, signal }) => {
    const folder = join(exportsDirectory(parts.homeDirectory), randomUUID());
    const remove = () => rm(folder, { recursive: true, force: true });
    try {
      await mkdir(folder, { recursive: true });
      const base = await parts.catalogue.resolve(model.baseModel, signal);
      const recipe =
        model.jobId === null ? null : await readRecipe(join(parts.homeDirectory, "jobs", model.jobId));
      const directory = join(folder, "export");
      const options: ExportOptions = {
        directory,
        model: model.id,
        adapterDirectory: model.adapterDirectory,
        base: { id: base.id, path: base.path },
        format,
        precision,
        recipe: recipe === null ? null : { ...recipe },
        isImported: model.jobId === null,
        promptFiles,
        versions: { ...currentVersions() },
      };
      await exportElsewhere({ options, threads: parts.threads }, signal);
      return { directory, remove };
    } catch (error) {
      await remove();
      throw error;
    }
  };
}

/** The models of an export, run as serving runs them. */
export function openModelWith(threads: number): OpenModel {
  return async (weights, adapter, positions) => {
    const generator = new Generator({
      config: weights.config,
      weights: loadDecoderWeights(weights, positions),
      threads,
    });
    const loaded = adapter === null ? NO_ADAPTER : toLoadedAdapter(adapter);
    return {
      async score(tokens, from, onLogits) {
        // Logits of the whole vocabulary cost as much as a layer: only the places that are asked for have them.
        const { cache } = await generator.readPrompt(tokens.slice(0, from), loaded);
        const reading = { ...generator.beginPrompt(tokens, (_, logits) => onLogits(logits)), cache };
        while (!isRead(reading)) await generator.readPass([reading], loaded);
      },
      async write(prompt, count, stops) {
        const reading = await generator.readPrompt(prompt, loaded);
        const written: number[] = [];
        let { logits } = reading;
        for (;;) {
          const token = mostLikely(logits);
          written.push(token);
          if (stops.has(token) || written.length === count) return written;
          logits = await generator.step(reading.cache, [token], loaded);
        }
      },
      release: () => generator.release(),
    };
  };
}

if (import.meta.filename === process.argv[1]) {
  try {
    setPriority(constants.priority.PRIORITY_BELOW_NORMAL);
  } catch {
    // Not permitted: an export at normal priority is better than none.
  }
  answerQuestion<Question>(async ({ options, threads }, signal) => {
    // Nobody waits any more: whoever started this removes what was written.
    signal.addEventListener("abort", () => process.exit(1));
    await exportModel(options, openModelWith(threads));
    return null;
  });
}
