// Regular expressions as JSON Schema means them (ECMAScript, by code points), read into a tree. What a finite automaton cannot
// follow, or this reader does not know, is refused by name.
import { characterSet, without } from "./character-set.ts";
import type { CharacterSet } from "./character-set.ts";

export type Pattern =
  | { type: "set"; set: CharacterSet }
  | { type: "sequence"; parts: readonly Pattern[] }
  | { type: "choice"; options: readonly Pattern[] }
  | { type: "repeat"; part: Pattern; least: number; most: number | null }
  /** `^` and `$`: a place, not a character. */
  | { type: "start" }
  | { type: "end" };

/** Why a pattern cannot be kept, as a clause that follows the pattern. */
export class PatternFault extends Error {}

/** Deeper groups are not written by people, and the reader recurses. */
const MAX_GROUP_DEPTH = 64;

const DIGITS: CharacterSet = [[0x30, 0x39]];
const WORD = characterSet([...DIGITS, [0x41, 0x5a], [0x5f, 0x5f], [0x61, 0x7a]]);
/** WhiteSpace and LineTerminator of ECMA-262. */
const SPACE = characterSet([
  ...([0x20, 0xa0, 0x1680, 0x202f, 0x205f, 0x3000, 0xfeff] as const).map((at) => [at, at] as const),
  [0x09, 0x0d],
  [0x2000, 0x200a],
  [0x2028, 0x2029],
]);
const LINE_ENDS = characterSet([
  [0x0a, 0x0a],
  [0x0d, 0x0d],
  [0x2028, 0x2029],
]);
const CLASSES: Readonly<Record<string, CharacterSet>> = {
  d: DIGITS,
  D: without(DIGITS),
  w: WORD,
  W: without(WORD),
  s: SPACE,
  S: without(SPACE),
};
const CONTROLS: Readonly<Record<string, number>> = { t: 9, n: 10, v: 11, f: 12, r: 13, "0": 0 };

/** Throws PatternFault. */
export function parsePattern(source: string): Pattern {
  try {
    new RegExp(source, "u");
  } catch {
    throw new PatternFault("which is not a regular expression");
  }
  return new PatternReader(source).read();
}

/** Reads what RegExp has found to be well formed. */
class PatternReader {
  readonly #source: string;
  #at = 0;

  constructor(source: string) {
    this.#source = source;
  }

  read(): Pattern {
    return this.#choice(0);
  }

  #choice(depth: number): Pattern {
    if (depth > MAX_GROUP_DEPTH)
      throw new PatternFault(`which has groups deeper than ${MAX_GROUP_DEPTH} levels`);
    const options = [this.#sequence(depth)];
    while (this.#take("|")) options.push(this.#sequence(depth));
    return options.length === 1 && options[0] !== undefined ? options[0] : { type: "choice", options };
  }

  #sequence(depth: number): Pattern {
    const parts: Pattern[] = [];
    while (this.#at < this.#source.length && !this.#sees("|") && !this.#sees(")")) {
      parts.push(this.#quantified(this.#term(depth)));
    }
    return { type: "sequence", parts };
  }

  #term(depth: number): Pattern {
    if (this.#take("^")) return { type: "start" };
    if (this.#take("$")) return { type: "end" };
    if (this.#take(".")) return { type: "set", set: without(LINE_ENDS) };
    if (this.#take("[")) return { type: "set", set: this.#class() };
    if (this.#take("(")) return this.#group(depth);
    if (this.#sees("\\")) return { type: "set", set: this.#escape(false) };
    return { type: "set", set: one(this.#character()) };
  }

  #group(depth: number): Pattern {
    const [named] = /^\?<(?![=!])[^>]*>/.exec(this.#source.slice(this.#at)) ?? [];
    if (named !== undefined) this.#at += named.length;
    else if (!this.#take("?:") && this.#sees("?")) {
      const [head = "?"] = /^\?(?:<?[=!]|[a-z-]*:)/.exec(this.#source.slice(this.#at)) ?? [];
      throw unsupported(`(${head}`);
    }
    const inner = this.#choice(depth + 1);
    this.#take(")");
    return inner;
  }

  #quantified(part: Pattern): Pattern {
    let repeated: Pattern = part;
    const [counts, low, comma, high] = /^\{(\d+)(,?)(\d*)\}/.exec(this.#source.slice(this.#at)) ?? [];
    if (this.#take("*")) repeated = { type: "repeat", part, least: 0, most: null };
    else if (this.#take("+")) repeated = { type: "repeat", part, least: 1, most: null };
    else if (this.#take("?")) repeated = { type: "repeat", part, least: 0, most: 1 };
    else if (counts !== undefined) {
      this.#at += counts.length;
      const least = Number(low);
      const most = high === "" ? (comma === "" ? least : null) : Number(high);
      repeated = { type: "repeat", part, least, most };
    } else return part;
    // Lazy or not, the same texts match.
    this.#take("?");
    return repeated;
  }

  #class(): CharacterSet {
    const isInverted = this.#take("^");
    const ranges: (readonly [number, number])[] = [];
    while (!this.#take("]")) {
      const first = this.#classAtom();
      const isRange = this.#sees("-") && this.#source[this.#at + 1] !== "]";
      const [only] = first;
      if (!isRange || only === undefined || only[0] !== only[1]) {
        ranges.push(...first);
        continue;
      }
      this.#at += 1;
      const [last] = this.#classAtom();
      ranges.push([only[0], last?.[0] ?? only[0]]);
    }
    return isInverted ? without(ranges) : characterSet(ranges);
  }

  #classAtom(): CharacterSet {
    return this.#sees("\\") ? this.#escape(true) : one(this.#character());
  }

  #escape(isInClass: boolean): CharacterSet {
    const start = this.#at;
    this.#at += 1;
    const letter = this.#character();
    const name = String.fromCodePoint(letter);
    const known = CLASSES[name];
    if (known !== undefined) return known;
    const control = CONTROLS[name];
    if (control !== undefined) return one(control);
    if (isInClass && name === "b") return one(8);
    if (name === "c") return one(this.#character() % 32);
    if (name === "x") return one(this.#hexadecimal(2));
    if (name === "u") return one(this.#codePoint());
    if (/[A-Za-z1-9]/.test(name)) {
      const rest = this.#source.slice(start);
      throw unsupported(/^\\[pP]\{[^}]*\}/.exec(rest)?.[0] ?? rest.slice(0, 2));
    }
    return one(letter);
  }

  #codePoint(): number {
    if (this.#take("{")) {
      const end = this.#source.indexOf("}", this.#at);
      return this.#hexadecimal(end - this.#at, 1);
    }
    const unit = this.#hexadecimal(4);
    if (unit < 0xd800 || unit > 0xdbff) return unit;
    const [pair, low = ""] = /^\\u([dD][c-fC-F][0-9a-fA-F]{2})/.exec(this.#source.slice(this.#at)) ?? [];
    if (pair === undefined) return unit;
    this.#at += pair.length;
    return 0x10000 + (unit - 0xd800) * 0x400 + (Number.parseInt(low, 16) - 0xdc00);
  }

  #hexadecimal(digits: number, closing = 0): number {
    const value = Number.parseInt(this.#source.slice(this.#at, this.#at + digits), 16);
    this.#at += digits + closing;
    return value;
  }

  #character(): number {
    const character = this.#source.codePointAt(this.#at) ?? 0;
    this.#at += character > 0xffff ? 2 : 1;
    return character;
  }

  #sees(text: string): boolean {
    return this.#source.startsWith(text, this.#at);
  }

  #take(text: string): boolean {
    const isThere = this.#sees(text);
    if (isThere) this.#at += text.length;
    return isThere;
  }
}

function one(character: number): CharacterSet {
  return [[character, character]];
}

function unsupported(part: string): PatternFault {
  return new PatternFault(`in which '${part}' is not supported`);
}
