// Confidence intervals of the quality table.

export interface Proportion {
  count: number;
  of: number;
  share: number;
  /** 95 %. */
  interval: [number, number];
}

/** The standard normal's 97.5 % point. */
const Z = 1.959964;

/** A share with its Wilson score interval (E. B. Wilson, JASA 22, 1927), which holds near 0 and 1 and on few trials. */
export function proportion(count: number, of: number): Proportion {
  const share = count / of;
  const middle = (share + Z ** 2 / (2 * of)) / (1 + Z ** 2 / of);
  const half = (Z / (1 + Z ** 2 / of)) * Math.sqrt((share * (1 - share)) / of + Z ** 2 / (4 * of ** 2));
  return { count, of, share, interval: [Math.max(0, middle - half), Math.min(1, middle + half)] };
}

/** Micro-averaged F1 of the parts of answers. */
export function f1(answers: readonly { given: readonly string[]; wanted: readonly string[] }[]): number {
  let [shared, given, wanted] = [0, 0, 0];
  for (const answer of answers) {
    shared += answer.given.filter((part) => answer.wanted.includes(part)).length;
    given += answer.given.length;
    wanted += answer.wanted.length;
  }
  return given + wanted === 0 ? 1 : (2 * shared) / (given + wanted);
}
