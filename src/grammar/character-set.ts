// Sets of Unicode code points, as sorted ranges that neither meet nor touch. Halves of surrogate pairs are in none: text that
// goes out as UTF-8 cannot hold them.

export type CharacterSet = readonly (readonly [first: number, last: number])[];

export const EVERY_CHARACTER: CharacterSet = [
  [0, 0xd7ff],
  [0xe000, 0x10ffff],
];

/** The set of any ranges, in any order. */
export function characterSet(ranges: CharacterSet): CharacterSet {
  const sorted = ranges.map(([first, last]): [number, number] => [first, last]).sort((a, b) => a[0] - b[0]);
  const merged: [number, number][] = [];
  for (const range of sorted) {
    const previous = merged.at(-1);
    if (previous !== undefined && range[0] <= previous[1] + 1) previous[1] = Math.max(previous[1], range[1]);
    else merged.push(range);
  }
  return common(merged, EVERY_CHARACTER);
}

/** What is in both. */
export function common(a: CharacterSet, b: CharacterSet): CharacterSet {
  return a.flatMap(([first, last]) =>
    b.flatMap(([from, to]): [number, number][] =>
      first <= to && from <= last ? [[Math.max(first, from), Math.min(last, to)]] : [],
    ),
  );
}

/** Every character but those of the set. */
export function without(set: CharacterSet): CharacterSet {
  const rest: [number, number][] = [];
  let next = 0;
  for (const [first, last] of characterSet(set)) {
    if (first > next) rest.push([next, first - 1]);
    next = last + 1;
  }
  return common([...rest, [next, 0x10ffff]], EVERY_CHARACTER);
}

/** The characters of a text, each a set of one. */
export function charactersOf(text: string): number[] {
  return Array.from(text, (character) => character.codePointAt(0) ?? 0);
}
