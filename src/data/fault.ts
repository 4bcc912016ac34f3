// What can be wrong with a line of data, as the readers of all formats tell it.
import { shown } from "./json-text.ts";

/** Kinds of faults OpenAI has different codes for: an extra or missing member, and anything else. */
export type FaultKind = "shape" | "content";

export interface Fault extends FaultDetails {
  kind: FaultKind;
  /** The message at fault, 1-based, or null for the example as a whole. */
  message: number | null;
  /** The member at fault where that is no message of a list: "preferred_output". */
  part?: string;
  /** A clause: 'contains an extra "x"'. */
  text: string;
}

/** The clause in parts, for reports that show each by itself. */
export interface FaultDetails {
  /** What stands there. */
  found?: string;
  expected?: string;
  /** What to do, as an instruction: "write …". */
  fix?: string;
}

/** Faults of one line that are kept: a line of 8 MB can have millions, and no person reads so many. Then reading it ends. */
export const MAX_KEPT_FAULTS = 100;

export type JsonObject = Record<string, unknown>;

export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Of a member that should be there. */
export function missingMember(key: string, expected: string): FaultDetails {
  return { found: `no "${key}"`, expected, fix: `add "${key}": ${expected}` };
}

/** What was found, short enough for a message. */
export function describe(value: unknown): string {
  if (value === undefined) return "missing";
  if (typeof value === "string") return JSON.stringify(shown(value));
  if (Array.isArray(value)) return value.length === 0 ? "an empty list" : `a list of ${value.length}`;
  return isObject(value) ? "an object" : JSON.stringify(value);
}
