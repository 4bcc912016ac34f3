// Which checkpoints of a run stay, and which of them is the best: the one with the lowest loss over the whole validation file. The
// trainer, which removes checkpoints, and the jobs, which make models of them, must agree; so it is decided here alone.
import { KEPT_EPOCHS } from "./job-directory.ts";
import type { StepMetrics, TrainerEvent } from "./job-directory.ts";

/** Full validation losses by the step that ended the epoch. */
export type ValidationLosses = ReadonlyMap<number, number>;

/** What a log of events says of them up to a step; a repeated step counts once. */
export function validationLosses(events: readonly TrainerEvent[], upToStep: number): Map<number, number> {
  const losses = new Map<number, number>();
  for (const event of events) {
    if (event.type !== "metrics" || event.step > upToStep || event.fullValidLoss === undefined) continue;
    losses.set(event.step, event.fullValidLoss);
  }
  return losses;
}

/** The step with the lowest loss, the earliest of equal ones; null where nothing was validated. */
export function bestStep(losses: ValidationLosses): number | null {
  let best: [step: number, loss: number] | null = null;
  for (const [step, loss] of [...losses].sort(([a], [b]) => a - b)) {
    if (best === null || loss < best[1]) best = [step, loss];
  }
  return best?.[0] ?? null;
}

/** Whether the last `patience` epochs or more came no lower than the best before them. */
export function hasStoppedImproving(losses: ValidationLosses, patience: number): boolean {
  const best = bestStep(losses);
  return best !== null && [...losses.keys()].filter((step) => step > best).length >= patience;
}

/** Of the checkpoints at epochs' ends, in order of step: the last ones and the best. These become models. */
export function keptCheckpoints<C extends { step: number; metrics: StepMetrics }>(
  inOrder: readonly C[],
): C[] {
  const best = bestCheckpoint(inOrder);
  const last = inOrder.slice(-KEPT_EPOCHS);
  return best === null || last.includes(best) ? last : [best, ...last];
}

export function bestCheckpoint<C extends { step: number; metrics: StepMetrics }>(
  checkpoints: readonly C[],
): C | null {
  const losses = checkpoints.flatMap(({ step, metrics }): [number, number][] =>
    metrics.fullValidLoss === undefined ? [] : [[step, metrics.fullValidLoss]],
  );
  const best = bestStep(new Map(losses));
  return checkpoints.find(({ step }) => step === best) ?? null;
}
