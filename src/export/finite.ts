// Whether weights are numbers: one NaN makes every answer NaN, and shows in no shape.

/** The place of the first value that is NaN or infinite; -1 where there is none. */
export function firstNonFinite(values: Float32Array): number {
  for (let i = 0; i < values.length; i++) if (!Number.isFinite(values[i])) return i;
  return -1;
}
