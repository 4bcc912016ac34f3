// Means with 95 % intervals by the bootstrap: how far a mean over these rows might be from that over all rows like them.
import { createRandom } from "../random.ts";

export interface MeanInterval {
  /** Values it is over. */
  count: number;
  mean: number;
  /** 95 % percentile interval (Efron and Tibshirani 1993, chapter 13). */
  low: number;
  high: number;
}

/** Resamples of an interval: its ends move by less than a hundredth of its width from seed to seed. */
const RESAMPLES = 2_000;
const TAIL = 0.025;

/** Null without values. The same values and seed give the same interval. */
export function meanInterval(values: readonly number[], seed: number): MeanInterval | null {
  const count = values.length;
  if (count === 0) return null;
  const mean = values.reduce((sum, value) => sum + value, 0) / count;
  const random = createRandom(seed, count);
  const means = new Float64Array(RESAMPLES);
  for (let i = 0; i < RESAMPLES; i++) {
    let sum = 0;
    for (let j = 0; j < count; j++) sum += values[random.below(count)] ?? 0;
    means[i] = sum / count;
  }
  means.sort();
  return { count, mean, low: quantile(means, TAIL), high: quantile(means, 1 - TAIL) };
}

/** Between the two nearest, in proportion. */
function quantile(sorted: Float64Array, share: number): number {
  const place = share * (sorted.length - 1);
  const below = Math.floor(place);
  const [low = 0, high = low] = [sorted[below], sorted[Math.min(below + 1, sorted.length - 1)]];
  return low + (high - low) * (place - below);
}
