// System prompts that are meant to be one and are not: what the model is told in training must be what it is told later.
import type { DatasetParam } from "../dataset.ts";
import { Places, rows } from "./report.ts";
import type { Finding } from "./report.ts";
import type { Row, Rule } from "./row.ts";
import { excerpt, tidy } from "./row.ts";

/** Different prompts that are kept; a file with more has one a row on purpose. */
const MAX_PROMPTS = 1_000;
/** Share of rows that share a prompt, or have one, from which the others look forgotten. */
const MOST = 0.9;
/** Below this many rows there is no rule to speak of. */
const MIN_ROWS = 10;

export class SystemPrompts implements Rule<Finding> {
  readonly #file: DatasetParam;
  #rows = 0;
  readonly #without = new Places();
  readonly #prompts = new Map<string, Places>();

  constructor(file: DatasetParam) {
    this.#file = file;
  }

  add({ system, line }: Row): void {
    this.#rows += 1;
    if (system === null) {
      this.#without.add(line);
      return;
    }
    const places = this.#prompts.get(system);
    if (places !== undefined) places.add(line);
    else if (this.#prompts.size < MAX_PROMPTS) {
      const fresh = new Places();
      fresh.add(line);
      this.#prompts.set(system, fresh);
    }
  }

  findings(): Finding[] {
    const found: Finding[] = [];
    if (this.#rows < MIN_ROWS) return found;
    const { count, places } = this.#without;
    if (count > 0 && count <= this.#rows * (1 - MOST)) {
      found.push({
        kind: "missing_system_prompts",
        severity: "warning",
        file: this.#file,
        message: `${rows(count)} ${count === 1 ? "has" : "have"} no system message, all others have one`,
        fix: "Add the system message that the model will get in use.",
        count,
        places,
      });
    }
    const variants = this.#variants();
    if (variants.count > 0) {
      found.push({
        kind: "system_prompt_variants",
        severity: "warning",
        file: this.#file,
        message: `${rows(variants.count)} ${variants.count === 1 ? "has" : "have"} a system message that differs from a more frequent one only in spaces, letter case or punctuation`,
        fix: "Use one wording everywhere, in training and in use.",
        count: variants.count,
        places: variants.places,
      });
    }
    return found;
  }

  #variants(): Places {
    const byFrequency = [...this.#prompts].sort((a, b) => b[1].count - a[1].count);
    const usual = new Map<string, string>();
    const variants = new Places();
    for (const [prompt, { count, places }] of byFrequency) {
      const key = tidy(prompt.replaceAll(/[\p{P}\p{S}]/gu, " "));
      const more = usual.get(key);
      if (more === undefined) usual.set(key, prompt);
      else {
        for (const { line } of places) variants.add(line, `"${excerpt(prompt)}"`);
        variants.count += count - places.length;
      }
    }
    return variants;
  }
}
