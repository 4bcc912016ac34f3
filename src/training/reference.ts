// The reference of preference training: the log-probabilities that the starting model gives every answer, computed once and kept
// in the job directory. They depend on nothing but the recipe: a run that was interrupted while it computed them, or that lost
// the file, finds the same numbers again.
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { supervisedPass } from "../data/batches.ts";
import { rowsOfPairs, splitPairsIntoPasses } from "../data/preference-batches.ts";
import type { BatchPair } from "../data/preference-batches.ts";
import { TunesmithError } from "../errors.ts";
import { writeFileAtomically } from "../model/atomic-write.ts";
import type { DecoderRunner } from "./decoder-runner.ts";
import { pairScores } from "./preference-loss.ts";
import type { PairScore, ReferencedPair } from "./preference-loss.ts";

/**
 * Pairs whose passes are cut together. Enough that rows of like length meet, few enough that an interruption costs little; and a
 * fixed number, since which rows share a pass shows in the last bits.
 */
const PAIRS_PER_CHUNK = 32;

export interface ReferenceOptions {
  /** Holds the starting parameters. */
  runner: DecoderRunner;
  /** Where the numbers are kept. */
  path: string;
  /** How often what is done so far is written. */
  saveIntervalMs: number;
  signal: AbortSignal;
  /** Milliseconds, monotonic. */
  now: () => number;
}

export interface Reference {
  scores: PairScore[];
  /** How many of them this call computed. */
  computed: number;
}

/** The reference's scores of pairs, in their order; what the file holds already is not computed again. */
export async function referenceScores(
  pairs: readonly BatchPair[],
  { runner, path, saveIntervalMs, signal, now }: ReferenceOptions,
): Promise<Reference> {
  const scores = await readScores(path);
  // Only whole chunks are written, and the last one ends with the pairs.
  if (scores.length > pairs.length) scores.length = 0;
  const kept = scores.length;
  let savedAt = now();
  let saved = kept;
  const save = async (): Promise<void> => {
    if (scores.length > saved) await writeScores(path, scores);
    saved = scores.length;
    savedAt = now();
  };
  try {
    while (scores.length < pairs.length) {
      const chunk = pairs.slice(scores.length, scores.length + PAIRS_PER_CHUNK);
      scores.push(...(await scoreChunk(chunk, runner, signal)));
      if (now() - savedAt >= saveIntervalMs) await save();
    }
  } finally {
    // Also when it was asked to stop in the middle.
    await save();
  }
  return { scores, computed: scores.length - kept };
}

/** Pairs with what the reference makes of them. */
export function withReference<P extends BatchPair>(
  pairs: readonly P[],
  scores: readonly PairScore[],
): (P & ReferencedPair)[] {
  return pairs.map((pair, i) => ({ ...pair, reference: scores[i] as PairScore }));
}

async function scoreChunk(
  pairs: readonly BatchPair[],
  runner: DecoderRunner,
  signal: AbortSignal,
): Promise<PairScore[]> {
  const found = new Map<BatchPair, PairScore>();
  for (const pass of splitPairsIntoPasses(pairs)) {
    signal.throwIfAborted();
    const { logProbabilities } = await runner.evaluate(supervisedPass(rowsOfPairs(pass)));
    for (const [i, score] of pairScores(pass, logProbabilities).entries()) {
      if (!Number.isFinite(score.preferred) || !Number.isFinite(score.rejected)) throw noNumber(score);
      found.set(pass[i] as BatchPair, score);
    }
  }
  return pairs.map((pair) => found.get(pair) as PairScore);
}

function noNumber(score: PairScore): TunesmithError {
  return new TunesmithError(
    `The starting model gives an answer of the data no finite log-probability (${score.preferred} and ${score.rejected} of a pair), so there is nothing to measure preferences against. Start from another model.`,
    { code: "training_diverged", param: "model" },
  );
}

interface ReferenceFile {
  version: 1;
  /** Of the JSON text of `scores`: a file that a failing disk changed is not trained on. */
  sha256: string;
  /** Nats of preferred and other answer. */
  scores: [number, number][];
}

/** None where there is no file, or one that is damaged: they are computed again. */
async function readScores(path: string): Promise<PairScore[]> {
  const text = await readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return null;
    throw error;
  });
  const file = text === null ? null : parsed(text);
  if (file?.version !== 1 || !Array.isArray(file.scores)) return [];
  if (file.sha256 !== sha256Of(file.scores)) return [];
  return file.scores.map(([preferred, rejected]) => ({ preferred, rejected }));
}

function parsed(text: string): Partial<ReferenceFile> | null {
  try {
    return JSON.parse(text) as Partial<ReferenceFile> | null;
  } catch {
    return null;
  }
}

async function writeScores(path: string, scores: readonly PairScore[]): Promise<void> {
  const pairs = scores.map(({ preferred, rejected }): [number, number] => [preferred, rejected]);
  const file: ReferenceFile = { version: 1, sha256: sha256Of(pairs), scores: pairs };
  await writeFileAtomically(path, [`${JSON.stringify(file)}\n`]);
}

function sha256Of(scores: ReferenceFile["scores"]): string {
  return createHash("sha256").update(JSON.stringify(scores)).digest("hex");
}
