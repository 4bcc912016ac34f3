// How long a metric may compute: a budget of steps, and a pause after every slice of them, so that one long pair of texts
// neither stops the event loop nor runs for ever. It knows no metric.
import { setImmediate } from "node:timers/promises";
import { Cancelled, InvalidRequest } from "../errors.ts";

/** Steps between two looks at the event loop; a step takes some nanoseconds, so requests beside it wait milliseconds. */
const SLICE_STEPS = 1_000_000;

/** Steps of one metric on one pair of texts: seconds. Only long texts that have next to nothing in common come near it. */
export const MAX_METRIC_STEPS = 1_000_000_000;

export class Pace {
  readonly #signal: AbortSignal;
  readonly #maxSteps: number;
  #spent = 0;
  #untilRest = SLICE_STEPS;

  constructor(signal: AbortSignal, maxSteps = MAX_METRIC_STEPS) {
    this.#signal = signal;
    this.#maxSteps = maxSteps;
  }

  /**
   * Counts steps; the promise, where there is one, must be awaited. Throws InvalidRequest past the budget, Cancelled when the
   * signal has aborted.
   */
  spend(steps: number): Promise<void> | undefined {
    this.#spent += steps;
    this.#untilRest -= steps;
    return this.#untilRest > 0 ? undefined : this.#rest();
  }

  async #rest(): Promise<void> {
    this.#untilRest = SLICE_STEPS;
    if (this.#spent > this.#maxSteps) {
      throw new InvalidRequest(
        "The texts are too long and too different to be compared with this metric. Grade shorter texts, or use another 'evaluation_metric'.",
        { code: "text_too_long" },
      );
    }
    await setImmediate();
    if (this.#signal.aborted) throw new Cancelled();
  }
}
