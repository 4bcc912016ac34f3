// When OpenAI's fine-tuned models stop answering, by the base that their names carry. From OpenAI's page of deprecations as it stood after
// the notice of 14 October 2026; a date on the model's own card goes before these.
import { parseModelName } from "../wire/model-names.ts";

export const DATES_FROM = "OpenAI's page of deprecations, notices up to 14 October 2026";

/** Evals: no list, no run, no definition after this day. */
export const EVALS_OFF = "2026-11-30";

/** The first base in the list that the name begins with counts. */
const LAST_DAYS: readonly (readonly [base: string, date: string])[] = [
  ["gpt-4.1-nano", "2026-10-23"],
  ["gpt-4.1", "2027-01-14"],
  ["gpt-4o", "2027-01-14"],
  ["gpt-4-", "2026-10-23"],
  ["gpt-3.5-turbo", "2026-10-23"],
  ["o4-mini", "2026-10-23"],
  ["davinci-002", "2026-10-23"],
  ["babbage-002", "2026-10-23"],
];

export interface ShutDown {
  /** As in the model's name; null where the name is none of a fine-tuned model. */
  base: string | null;
  /** YYYY-MM-DD; null where nobody has said. */
  date: string | null;
  from: "model card" | "base" | "unknown";
}

export function shutDownOf(model: string, cardDate: string | null): ShutDown {
  const base = baseOf(model);
  if (cardDate !== null && /^\d{4}-\d{2}-\d{2}$/.test(cardDate))
    return { base, date: cardDate, from: "model card" };
  const known = base === null ? undefined : LAST_DAYS.find(([start]) => base.startsWith(start));
  return known === undefined ? { base, date: null, from: "unknown" } : { base, date: known[1], from: "base" };
}

/** The base in a fine-tuned model's name. Old names have other shapes behind the base than today's. */
export function baseOf(model: string): string | null {
  return parseModelName(model)?.base ?? /^ft:([^:]+)/.exec(model)?.[1] ?? null;
}
