// A grammar over bytes as a program: instructions that read a byte, choose, call a rule or repeat one. Built from its end to its
// beginning: each part is given the instruction that follows it.
import { EVERY_CHARACTER } from "./character-set.ts";
import type { CharacterSet } from "./character-set.ts";
import type { Automaton } from "./automaton.ts";

export type Instruction =
  /** Reads a byte; where several edges take it, each is one way on. */
  | { op: "bytes"; edges: readonly ByteEdge[] }
  | { op: "choice"; targets: readonly number[] }
  /** Goes through a rule, then on. */
  | { op: "call"; rule: number; next: number }
  /** Goes through `first`, then through `rest` again and again: `least` to `most` (null: any number) times in all. No rule is empty. */
  | { op: "repeat"; first: number; rest: number; least: number; most: number | null; next: number }
  /** The end of a rule. */
  | { op: "return" };

export type ByteEdge = readonly [first: number, last: number, target: number];

export interface Program {
  instructions: readonly Instruction[];
  start: number;
}

const encoder = new TextEncoder();

export class ProgramBuilder {
  readonly #instructions: Instruction[] = [{ op: "return" }];
  readonly #shared = new Map<string, number>();
  /** Where every rule ends, the program too. */
  readonly end = 0;

  program(start: number): Program {
    return { instructions: this.#instructions, start };
  }

  /** A place that is filled later, for what refers to itself. */
  reserve(): { at: number; fill: (target: number) => void } {
    const targets: number[] = [];
    return { at: this.#add({ op: "choice", targets }), fill: (target) => void targets.push(target) };
  }

  bytes(edges: readonly ByteEdge[]): number {
    const key = edges.map((edge) => edge.join(" ")).join();
    const found = this.#shared.get(key);
    if (found !== undefined) return found;
    const made = this.#add({ op: "bytes", edges });
    this.#shared.set(key, made);
    return made;
  }

  choice(targets: readonly number[]): number {
    const [only] = targets;
    return targets.length === 1 && only !== undefined ? only : this.#add({ op: "choice", targets });
  }

  call(rule: number, next: number): number {
    return this.#add({ op: "call", rule, next });
  }

  repeat(parts: Omit<Extract<Instruction, { op: "repeat" }>, "op">): number {
    return this.#add({ op: "repeat", ...parts });
  }

  literal(text: string, next: number): number {
    return this.#row(encoder.encode(text), next);
  }

  /** One of these texts; what they begin with in common is gone through once. */
  oneLiteralOf(texts: readonly string[], next: number): number {
    return this.#branches(
      [...new Set(texts)].map((text) => encoder.encode(text)),
      next,
    );
  }

  #branches(texts: readonly Uint8Array[], next: number): number {
    const byFirst = new Map<number | undefined, Uint8Array[]>();
    for (const text of texts) byFirst.set(text[0], [...(byFirst.get(text[0]) ?? []), text]);
    const edges: ByteEdge[] = [];
    for (const [first, alike] of byFirst) {
      if (first === undefined) continue;
      const shared = alike.reduce((all, each) => all.subarray(0, commonLength(all, each)));
      const rests = alike.map((text) => text.subarray(shared.length));
      const after = rests.length === 1 ? next : this.#branches(rests, next);
      edges.push([first, first, this.#row(shared.subarray(1), after)]);
    }
    const ways = edges.length === 0 ? [] : [this.bytes(edges)];
    return this.choice(byFirst.has(undefined) ? [next, ...ways] : ways);
  }

  #row(bytes: Uint8Array, next: number): number {
    return bytes.reduceRight((after, byte) => this.bytes([[byte, byte, after]]), next);
  }

  /** One of these bytes. */
  oneOf(text: string, next: number): number {
    return this.bytes([...encoder.encode(text)].map((byte) => [byte, byte, next]));
  }

  /** One character of a JSON text's inside, each spelled in one way: raw where JSON allows it, else as JSON.stringify escapes it. */
  spelled(set: CharacterSet, next: number): number {
    return this.bytes(this.#spellings(set, next));
  }

  /** A text of the automaton as the inside of a JSON text, or of anything whose characters need no escapes. */
  spelledText(automaton: Automaton, next: number): number {
    const places = automaton.map(() => this.reserve());
    for (const [at, { edges, isEnd }] of automaton.entries()) {
      const targets = isEnd ? [next] : [];
      const ways = edges.flatMap(([set, target]) => this.#spellings(set, places[target]?.at ?? 0));
      if (ways.length > 0) targets.push(this.bytes(ways));
      places[at]?.fill(this.choice(targets));
    }
    return places[0]?.at ?? next;
  }

  #spellings(set: CharacterSet, next: number): ByteEdge[] {
    const escapes: Uint8Array[] = [];
    const edges: ByteEdge[] = [];
    for (const [first, last] of set) {
      let from = first;
      for (const [character, escape] of ESCAPES) {
        if (character < from || character > last) continue;
        escapes.push(escape);
        edges.push(...this.#encoded(from, character - 1, next));
        from = character + 1;
      }
      edges.push(...this.#encoded(from, last, next));
    }
    if (escapes.length > 0) edges.push([BACKSLASH, BACKSLASH, this.#branches(escapes, next)]);
    return edges;
  }

  /** UTF-8 of all characters of a range. */
  #encoded(first: number, last: number, next: number): ByteEdge[] {
    if (first > last) return [];
    const boundary = BOUNDARIES.find((end) => first <= end && end < last);
    if (boundary !== undefined)
      return [...this.#encoded(first, boundary, next), ...this.#encoded(boundary + 1, last, next)];
    return this.#alike(encode(first), encode(last), next);
  }

  /** Of as many bytes each. */
  #alike(low: readonly number[], high: readonly number[], next: number): ByteEdge[] {
    const [a = 0, ...lowRest] = low;
    const [b = 0, ...highRest] = high;
    if (lowRest.length === 0) return [[a, b, next]];
    const tail = (from: readonly number[], to: readonly number[]): number =>
      this.bytes(this.#alike(from, to, next));
    if (a === b) return [[a, a, tail(lowRest, highRest)]];
    const least = lowRest.map(() => 0x80);
    const most = highRest.map(() => 0xbf);
    const isWholeLow = lowRest.every((byte) => byte === 0x80);
    const isWholeHigh = highRest.every((byte) => byte === 0xbf);
    const edges: ByteEdge[] = [];
    if (!isWholeLow) edges.push([a, a, tail(lowRest, most)]);
    const from = isWholeLow ? a : a + 1;
    const to = isWholeHigh ? b : b - 1;
    if (from <= to) edges.push([from, to, tail(least, most)]);
    if (!isWholeHigh) edges.push([b, b, tail(least, highRest)]);
    return edges;
  }

  #add(instruction: Instruction): number {
    return this.#instructions.push(instruction) - 1;
  }
}

const BACKSLASH = 0x5c;

/** Characters that JSON.stringify escapes, ascending, with what it writes behind the backslash. */
const ESCAPES = [...Array.from({ length: 0x20 }, (_, control) => control), 0x22, 0x5c].map(
  (character) =>
    [character, encoder.encode(JSON.stringify(String.fromCodePoint(character)).slice(2, -1))] as const,
);

/** The last characters before a longer encoding, and before the halves of surrogate pairs. */
const BOUNDARIES = [0x7f, 0x7ff, 0xd7ff, 0xdfff, 0xffff];

function encode(character: number): number[] {
  return [...encoder.encode(String.fromCodePoint(character))];
}

/** What may stand in a JSON text without an escape. */
export const RAW_CHARACTERS: CharacterSet = EVERY_CHARACTER.flatMap(([first, last]): [number, number][] =>
  first === 0
    ? [
        [0x20, 0x21],
        [0x23, 0x5b],
        [0x5d, last],
      ]
    : [[first, last]],
);

export function commonLength(a: Uint8Array, b: Uint8Array): number {
  const length = Math.min(a.length, b.length);
  let at = 0;
  while (at < length && a[at] === b[at]) at += 1;
  return at;
}
