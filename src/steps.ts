// Work in steps, between which a caller may do something else: a server answers others while it reads, merges or loads. It knows no work.
import { setImmediate as nextTurn } from "node:timers/promises";

/** Gives way now and then, and returns what was computed. */
export type Steps<T> = Generator<void, T, void>;

/** Runs all steps at once. */
export function finish<T>(steps: Steps<T>): T {
  for (;;) {
    const { done, value } = steps.next();
    if (done === true) return value;
  }
}

/** Runs all steps, giving way between them: by a turn of the event loop, unless told how. */
export async function finishInTurns<T>(
  steps: Steps<T>,
  giveWay: () => Promise<void> = () => nextTurn(),
): Promise<T> {
  for (;;) {
    const { done, value } = steps.next();
    if (done === true) return value;
    await giveWay();
  }
}
