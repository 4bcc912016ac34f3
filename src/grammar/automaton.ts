// Deterministic automata over characters: of a pattern, and of all texts but some. From each state some end can be reached, so
// that a text that is written along one never runs into a wall.
import { charactersOf, characterSet, common, EVERY_CHARACTER, without } from "./character-set.ts";
import type { CharacterSet } from "./character-set.ts";
import { PatternFault } from "./pattern.ts";
import type { Pattern } from "./pattern.ts";

export interface AutomatonState {
  /** Where each character leads; the sets have nothing in common. */
  readonly edges: readonly (readonly [set: CharacterSet, target: number])[];
  readonly isEnd: boolean;
}

/** It starts in the first state. */
export type Automaton = readonly AutomatonState[];

/**
 * Characters of one pattern, repetitions written out: those of a pattern that somebody wrote for people stay far below. Beyond,
 * making it deterministic takes long, and nothing else is served meanwhile.
 */
export const MAX_PATTERN_POSITIONS = 1_000;
/** Steps of making patterns deterministic, over all patterns of a schema: with their grammars half a second. */
export const MAX_PATTERN_STEPS = 20_000;

/** What is left of MAX_PATTERN_STEPS. */
export interface StepBudget {
  steps: number;
}

/** A place between the characters of a pattern. */
type Place =
  | { type: "set"; set: CharacterSet; next: number }
  | { type: "fork"; next: number[] }
  | { type: "start" | "end"; next: number }
  | { type: "accept" };

/**
 * The texts in which the pattern is found: all of them, where it has no `^` and `$`, that hold a match somewhere. Throws
 * PatternFault where no text does, or where it is too large.
 */
export function patternAutomaton(
  pattern: Pattern,
  budget: StepBudget = { steps: MAX_PATTERN_STEPS },
): Automaton {
  const places: Place[] = [{ type: "accept" }];
  const add = (place: Place): number => places.push(place) - 1;
  let positions = 0;
  let parts = 0;
  const place = (part: Pattern, next: number): number => {
    parts += 1;
    // Empty groups are no characters, but cost as much.
    if (positions > MAX_PATTERN_POSITIONS || parts > 8 * MAX_PATTERN_POSITIONS) throw tooLarge();
    switch (part.type) {
      case "set":
        positions += 1;
        return add({ type: "set", set: part.set, next });
      case "sequence":
        return part.parts.reduceRight((after, each) => place(each, after), next);
      case "choice":
        return add({ type: "fork", next: part.options.map((option) => place(option, next)) });
      case "repeat":
        return repeat(part, next);
      case "start":
      case "end":
        return add({ type: part.type, next });
    }
  };
  const repeat = ({ part, least, most }: Extract<Pattern, { type: "repeat" }>, next: number): number => {
    if (Math.max(least, most ?? 0) > MAX_PATTERN_POSITIONS) throw tooLarge();
    let start = next;
    if (most === null) {
      const fork: Extract<Place, { type: "fork" }> = { type: "fork", next: [next] };
      start = add(fork);
      fork.next.push(place(part, start));
    } else {
      for (let i = least; i < most; i++) start = add({ type: "fork", next: [next, place(part, start)] });
    }
    for (let i = 0; i < least; i++) start = place(part, start);
    return start;
  };
  const search: Extract<Place, { type: "fork" }> = { type: "fork", next: [place(pattern, 0)] };
  const start = add(search);
  search.next.push(add({ type: "set", set: EVERY_CHARACTER, next: start }));
  return trimmed(determinize(places, start, budget));
}

/** All texts but these. */
export function otherTexts(texts: readonly string[]): Automaton {
  const nodes: { children: Map<number, number>; isText: boolean }[] = [
    { children: new Map(), isText: false },
  ];
  for (const text of texts) {
    let node = 0;
    for (const character of charactersOf(text)) {
      const children = nodes[node]?.children;
      const next = children?.get(character) ?? nodes.push({ children: new Map(), isText: false }) - 1;
      children?.set(character, next);
      node = next;
    }
    const last = nodes[node];
    if (last !== undefined) last.isText = true;
  }
  const free = nodes.length;
  return [
    ...nodes.map(({ children, isText }): AutomatonState => {
      const named = [...children.keys()].map((character) => [character, character] as const);
      return {
        edges: [
          [without(named), free],
          ...[...children].map(
            ([character, target]) => [characterSet([[character, character]]), target] as const,
          ),
        ],
        isEnd: !isText,
      };
    }),
    { edges: [[EVERY_CHARACTER, free]], isEnd: true },
  ];
}

function determinize(places: readonly Place[], start: number, budget: StepBudget): AutomatonState[] {
  const live = leadingToAccept(places);
  /** All that is reached without a character, sorted. The accepting place stands for all that may follow it. */
  const closure = (from: readonly number[], passes: { start: boolean; end: boolean }): number[] => {
    const reached = new Set<number>();
    const queue = [...from];
    for (let at = queue.pop(); at !== undefined; at = queue.pop()) {
      if (reached.has(at) || (!passes.start && !live.has(at))) continue;
      reached.add(at);
      const place = places[at];
      if (place?.type === "accept") return [at];
      if (place?.type === "fork") queue.push(...place.next);
      else if (place?.type === "start" && passes.start) queue.push(place.next);
      else if (place?.type === "end" && passes.end) queue.push(place.next);
    }
    budget.steps -= reached.size;
    if (budget.steps < 0) throw tooLarge();
    return [...reached].sort((a, b) => a - b);
  };
  const states: { edges: [CharacterSet, number][]; isEnd: boolean }[] = [];
  const known = new Map<string, number>();
  const waiting: [state: number, places: number[]][] = [];
  const stateOf = (set: number[], isStart: boolean): number => {
    const key = `${isStart} ${set.join(" ")}`;
    const found = known.get(key);
    if (found !== undefined) return found;
    const isEnd = places[closure(set, { start: isStart, end: true })[0] ?? -1]?.type === "accept";
    const state = states.push({ edges: [], isEnd }) - 1;
    known.set(key, state);
    waiting.push([state, set]);
    return state;
  };
  stateOf(closure([start], { start: true, end: false }), true);
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    const [state, set] = next;
    const edges = states[state]?.edges;
    if (places[set[0] ?? -1]?.type === "accept") {
      edges?.push([EVERY_CHARACTER, state]);
      continue;
    }
    for (const [characters, targets] of split(
      set.map((at) => places[at]),
      budget,
    )) {
      edges?.push([characters, stateOf(closure(targets, { start: false, end: false }), false)]);
    }
  }
  return states;
}

/** Places from which a text may still be accepted once it has begun, past every `^`. */
function leadingToAccept(places: readonly Place[]): Set<number> {
  const sources = places.map((): number[] => []);
  for (const [at, place] of places.entries()) {
    if (place.type === "accept" || place.type === "start") continue;
    for (const next of [place.next].flat()) sources[next]?.push(at);
  }
  const live = new Set<number>();
  const queue = places.flatMap((place, at) => (place.type === "accept" ? [at] : []));
  for (let at = queue.pop(); at !== undefined; at = queue.pop()) {
    if (live.has(at)) continue;
    live.add(at);
    queue.push(...(sources[at] ?? []));
  }
  return live;
}

/** Characters by the places they lead to. */
function split(
  places: readonly (Place | undefined)[],
  budget: StepBudget,
): [characters: CharacterSet, targets: number[]][] {
  const sets = places.filter((place) => place?.type === "set");
  const cuts = [
    ...new Set(sets.flatMap(({ set }) => set.flatMap(([first, last]) => [first, last + 1]))),
  ].sort((a, b) => a - b);
  budget.steps -= cuts.length;
  const byTargets = new Map<string, { ranges: [number, number][]; targets: number[] }>();
  for (const [i, first] of cuts.entries()) {
    const last = (cuts[i + 1] ?? first + 1) - 1;
    const targets = sets
      .filter(({ set }) => common(set, [[first, first]]).length > 0)
      .map(({ next }) => next);
    budget.steps -= Math.ceil(sets.length / 8);
    if (budget.steps < 0) throw tooLarge();
    if (targets.length === 0) continue;
    const group = byTargets.get(targets.join(" ")) ?? { ranges: [], targets };
    group.ranges.push([first, last]);
    byTargets.set(targets.join(" "), group);
  }
  return [...byTargets.values()].map(({ ranges, targets }) => [characterSet(ranges), targets]);
}

/** Without the states from which no end is reached. */
function trimmed(states: readonly AutomatonState[]): Automaton {
  const sources = states.map((): number[] => []);
  for (const [at, { edges }] of states.entries()) for (const [, target] of edges) sources[target]?.push(at);
  const alive = new Set<number>();
  const queue = states.flatMap(({ isEnd }, at) => (isEnd ? [at] : []));
  for (let at = queue.pop(); at !== undefined; at = queue.pop()) {
    if (alive.has(at)) continue;
    alive.add(at);
    queue.push(...(sources[at] ?? []));
  }
  if (!alive.has(0)) throw new PatternFault("which is one that no text matches");
  const names = new Map([...alive].sort((a, b) => a - b).map((at, name) => [at, name]));
  return [...names.keys()].map((at) => {
    const { edges = [], isEnd = false } = states[at] ?? {};
    return {
      edges: edges.flatMap(([set, target]) => {
        const name = names.get(target);
        return name === undefined || set.length === 0 ? [] : [[set, name] as const];
      }),
      isEnd,
    };
  });
}

function tooLarge(): PatternFault {
  return new PatternFault("which is too large: write it with fewer repetitions and alternatives");
}
