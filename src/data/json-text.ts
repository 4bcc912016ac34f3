// JSON parsing that hides nothing: JSON.parse keeps the last of two equal keys and rounds long numbers without a word;
// here both are faults. It knows no message format.
import { finish } from "../steps.ts";
import type { Steps } from "../steps.ts";
import { messageOf } from "../errors.ts";

export type ParsedJson = { ok: true; value: unknown } | ({ ok: false } & JsonFault);

export interface JsonFault {
  /** In a clause. */
  fault: string;
  /** What it should have been, and what to do: where it is JSON that every writer of JSON may write. Left out: no JSON at all. */
  expected?: string;
  fix?: string;
}

/** Levels of arrays and objects; far more than any tool schema has, and safely below where recursive code overflows. */
export const MAX_JSON_DEPTH = 128;

/** Parses one JSON text, or says in a clause what is wrong with it. */
export function parseJson(text: string): ParsedJson {
  return finish(parseJsonInSteps(text));
}

/** As parseJson, giving way now and then: a text of megabytes takes seconds. */
export function* parseJsonInSteps(text: string): Steps<ParsedJson> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    return { ok: false, fault: `is not valid JSON: ${messageOf(error)}` };
  }
  const fault = yield* findHiddenFault(text);
  return fault === null ? { ok: true, value } : { ok: false, ...fault };
}

interface Level {
  /** Keys seen so far; null for an array. */
  keys: Set<string> | null;
  /** The key or index being read, for naming the place. */
  at: string | number;
}

/** The tokens of a text that JSON.parse accepted which matter here: strings, numbers, brackets and commas. */
function* tokens(text: string): Generator<string, void, void> {
  // Walked by hand: a regular expression's stack is too small for strings of megabytes.
  let at = 0;
  while (at < text.length) {
    const start = at++;
    const first = text.charAt(start);
    if (first === '"') {
      at = endOfString(text, at);
      yield text.slice(start, at);
    } else if (first === "-" || (first >= "0" && first <= "9")) {
      while (at < text.length && NUMBER_CHARACTERS.includes(text.charAt(at))) at++;
      yield text.slice(start, at);
    } else if ("[]{},".includes(first)) yield first;
  }
}

/** Behind the quotation mark that ends a string whose text begins at `start`: the first one without a backslash that escapes it. */
function endOfString(text: string, start: number): number {
  for (let end = text.indexOf('"', start); ; end = text.indexOf('"', end + 1)) {
    let backslashes = 0;
    while (text.charAt(end - 1 - backslashes) === "\\" && end - 1 - backslashes >= start) backslashes++;
    if (backslashes % 2 === 0) return end + 1;
  }
}

const NUMBER_CHARACTERS = "0123456789.eE+-";

/** Tokens looked at between two steps: about a millisecond. */
const STEP_TOKENS = 4_096;

const TOO_DEEP: JsonFault = {
  fault: `nests deeper than ${MAX_JSON_DEPTH} levels`,
  expected: `at most ${MAX_JSON_DEPTH} levels of arrays and objects`,
  fix: "write it flatter",
};
const ONCE = { expected: "each key once in an object", fix: "keep one of the two" };
const EXACT_NUMBER = {
  expected: "a number that 64-bit floating point holds exactly",
  fix: "write it as a text, in quotation marks, or with fewer digits",
};

function* findHiddenFault(text: string): Steps<JsonFault | null> {
  const stack: Level[] = [];
  let isKeyNext = false;
  let seen = 0;
  for (const token of tokens(text)) {
    if (++seen % STEP_TOKENS === 0) yield;
    const level = stack.at(-1);
    switch (token[0]) {
      case "{":
      case "[":
        if (stack.length === MAX_JSON_DEPTH) return TOO_DEEP;
        stack.push(token === "{" ? { keys: new Set(), at: "" } : { keys: null, at: 0 });
        isKeyNext = token === "{";
        break;
      case "}":
      case "]":
        stack.pop();
        isKeyNext = false;
        break;
      case ",":
        if (typeof level?.at === "number") level.at++;
        isKeyNext = true; // of an object; an array has no keys to read
        break;
      case '"':
        if (isKeyNext && level?.keys) {
          const key = JSON.parse(token) as string;
          level.at = key;
          if (level.keys.has(key)) return { fault: `has the key ${place(stack)} twice`, ...ONCE };
          level.keys.add(key);
        }
        isKeyNext = false;
        break;
      default:
        if (!isExact(token)) {
          return {
            fault: `holds a number that cannot be kept exactly: ${shown(token)} at ${place(stack)}`,
            ...EXACT_NUMBER,
          };
        }
    }
  }
  return null;
}

/** Whether the number survives: finite, and an integer as it was written or as every JSON writer would write it. */
function isExact(token: string): boolean {
  const value = Number(token);
  if (!Number.isFinite(value)) return false;
  if (Number.isSafeInteger(value) || !/^-?\d+$/.test(token)) return true;
  return String(value) === token || BigInt(token) === BigInt(value);
}

function place(stack: readonly Level[]): string {
  const path = stack
    .map(({ at }, depth) => (typeof at === "number" ? `[${at}]` : `${depth === 0 ? "" : "."}${at}`))
    .join("");
  return `"${shown(path)}"`;
}

/** A stretch of the user's text short enough for a message. */
export function shown(text: string): string {
  return text.length <= 80 ? text : `${text.slice(0, 77)}…`;
}
