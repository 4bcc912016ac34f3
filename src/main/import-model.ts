// Imports on the disk of this server, and their check in a process of its own: files of a stranger are read there, so that what they do
// to a reader is done to no server. This file is both ends: what starts the process, and, run as a program, the process itself.
import { randomUUID } from "node:crypto";
import { existsSync } from "node:fs";
import { cp, mkdir, readdir, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { ImportFolder, ModelImporter } from "../api/model-import.ts";
import { Conflict } from "../errors.ts";
import { checkAdapter, checkModel, type CheckedAdapter } from "../export/import-check.ts";
import { contentsOf, type ImportContents } from "../export/import-contents.ts";
import {
  flushDirectory,
  flushFile,
  removeTemporarySiblings,
  writeDirectoryAtomically,
} from "../model/atomic-write.ts";
import { modelDirectory } from "../model/resolve-base-model.ts";
import { answerQuestion, askProgram } from "../package-program.ts";
import type { ModelStore } from "../store/models.ts";
import type { ImportFormat } from "../wire/import.ts";

/** What is received lies here, each import in a folder of its own; nothing in it outlives the server that received it. */
const importsDirectory = (homeDirectory: string): string => join(homeDirectory, "imports");
/** Imported adapters, each in a folder of its own, which the model's row names. */
const ADAPTERS = "adapters";

/** The received files, by a name that says to whoever sent them where a fault is, and not where the home folder lies. */
const RECEIVED = "import";
/** What stays of an adapter. */
const KEPT = "kept";

type Question = { folder: string } & (
  | { step: "contents" }
  | { step: "adapter"; format: ImportFormat; base: { id: string; path: string } }
  | { step: "model"; format: ImportFormat }
);

export function createImporter({ homeDirectory }: { homeDirectory: string }): ModelImporter {
  return {
    begin: async () => {
      const folder = join(importsDirectory(homeDirectory), randomUUID());
      await mkdir(join(folder, RECEIVED), { recursive: true, mode: 0o700 });
      return importFolder(homeDirectory, folder);
    },
  };
}

function importFolder(homeDirectory: string, folder: string): ImportFolder {
  const ask = <Answer>(question: DistributiveOmit<Question, "folder">, signal: AbortSignal) =>
    askProgram<Answer>("main/import-model", { ...question, folder } satisfies Question, {
      signal,
      ended: "The process that checks the import",
      advice: "Free some memory or take a smaller model, and send the request again",
    });
  return {
    received: join(folder, RECEIVED),
    contents: (signal) => ask<ImportContents>({ step: "contents" }, signal),
    checkAdapter: (format, base, signal) => ask<CheckedAdapter>({ step: "adapter", format, base }, signal),
    checkModel: (format, signal) => ask<null>({ step: "model", format }, signal),
    keepAdapter: async () => {
      const adapterDirectory = join(ADAPTERS, randomUUID());
      await mkdir(join(homeDirectory, ADAPTERS), { recursive: true, mode: 0o700 });
      await moveFolder(join(folder, KEPT), join(homeDirectory, adapterDirectory));
      return {
        adapterDirectory,
        discard: () => rm(join(homeDirectory, adapterDirectory), { recursive: true, force: true }),
      };
    },
    keepModel: async (name) => {
      await mkdir(join(homeDirectory, "models"), { recursive: true, mode: 0o700 });
      await moveFolder(join(folder, RECEIVED), modelDirectory(homeDirectory, name));
    },
    remove: () => rm(folder, { recursive: true, force: true }),
  };
}

type DistributiveOmit<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never;

/** Throws Conflict where something has the name already. */
async function moveFolder(from: string, to: string): Promise<void> {
  const taken = () =>
    new Conflict("A base model of this name has come up meanwhile. Take another name.", {
      code: "model_exists",
      param: "name",
    });
  await flushDirectory(from);
  if (existsSync(to)) throw taken();
  try {
    await rename(from, to);
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : null;
    if (code === "ENOTEMPTY" || code === "EEXIST") throw taken();
    // The models may lie on a disk of their own.
    if (code !== "EXDEV") throw error;
    await writeDirectoryAtomically(to, async (temporary) => {
      await cp(from, temporary, { recursive: true });
      for (const name of await readdir(temporary)) await flushFile(join(temporary, name));
    });
  }
  await flushDirectory(dirname(to));
}

/** Removes what a killed server had received, and adapters that no model names: their row was never written, or is deleted. */
export async function sweepImports(homeDirectory: string, models: ModelStore): Promise<void> {
  await rm(importsDirectory(homeDirectory), { recursive: true, force: true });
  const entries = (directory: string) => readdir(directory).catch((): string[] => []);
  const adapters = join(homeDirectory, ADAPTERS);
  const found = await entries(adapters);
  const known = found.length === 0 ? new Set<string>() : await models.importedDirectories();
  for (const name of found) {
    const path = join(adapters, name);
    if (!known.has(path)) await rm(path, { recursive: true, force: true });
  }
  const modelsDirectory = join(homeDirectory, "models");
  if ((await entries(modelsDirectory)).length > 0) await removeTemporarySiblings(modelsDirectory);
}

if (import.meta.filename === process.argv[1]) {
  answerQuestion<Question>(async (question, signal) => {
    // Nobody waits any more: whoever started this removes what was written.
    signal.addEventListener("abort", () => process.exit(1));
    // Messages name files as their sender knows them.
    process.chdir(question.folder);
    switch (question.step) {
      case "contents":
        return contentsOf(RECEIVED);
      case "adapter":
        return checkAdapter({ ...question, directory: RECEIVED, kept: KEPT });
      case "model":
        await checkModel({ ...question, directory: RECEIVED });
        return null;
    }
  });
}
