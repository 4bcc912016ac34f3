// The answers as a set: are they labels and how are those spread, are some empty, do JSON answers agree in keys and types.
// A rule speaks only where most rows agree and a few do not: then the few are the mistake.
import type { DatasetParam } from "../dataset.ts";
import { Places, rows } from "./report.ts";
import type { Finding, LabelCount } from "./report.ts";
import type { Row, Rule } from "./row.ts";
import { excerpt, tidy } from "./row.ts";

/** More different answers than this are no set of labels. */
const MAX_LABELS = 200;
/** Labels are short: words of the longest. */
const MAX_LABEL_WORDS = 6;
/** Each label must occur this often on average, or the answers only happen to be short. */
const MIN_ROWS_A_LABEL = 5;
/** Answers of one label from which it can be learnt; OpenAI's own least number of examples. */
const MIN_LABEL_ROWS = 10;
/** Share of the rows that makes a rule of what they have in common. */
const MOST = 0.9;
/** Below this many rows there is no rule to speak of. */
const MIN_ROWS = 10;
/** Different keys of JSON answers that are watched; answers with more are maps with data for keys. */
const MAX_KEYS = 100;
/** Rows whose JSON answers are looked at one by one. */
const MAX_JSON_ROWS = 50_000;

export class Answers implements Rule<Finding> {
  readonly #file: DatasetParam;
  #rows = 0;
  readonly #empty = new Places();
  readonly #oneWord = new Places();
  /** Answer by answer as written; null once there are too many for labels. */
  #labels: Map<string, { count: number; line: number }> | null = new Map();
  readonly #json: JsonAnswers;

  constructor(file: DatasetParam) {
    this.#file = file;
    this.#json = new JsonAnswers(file);
  }

  add(row: Row): void {
    this.#rows += 1;
    if (!row.callsTools) this.#json.add(row);
    const words = row.answer.trim().split(/\s+/).length;
    if (row.answer.trim() === "") this.#empty.add(row.line);
    else if (words === 1 && !row.callsTools && !/^\s*[{[]/.test(row.answer))
      this.#oneWord.add(row.line, () => `"${excerpt(row.answer, 40)}"`);
    if (this.#labels === null) return;
    if (row.callsTools || words > MAX_LABEL_WORDS) {
      this.#labels = null;
      return;
    }
    const seen = this.#labels.get(row.answer);
    if (seen === undefined) this.#labels.set(row.answer, { count: 1, line: row.line });
    else seen.count += 1;
    if (this.#labels.size > MAX_LABELS) this.#labels = null;
  }

  /** Most frequent first; null where the answers are no labels. */
  labels(): LabelCount[] | null {
    const labels = this.#labels;
    if (labels === null || labels.size < 2 || this.#rows < labels.size * MIN_ROWS_A_LABEL) return null;
    return [...labels]
      .map(([label, { count }]) => ({ label, count }))
      .sort((a, b) => b.count - a.count || (a.label < b.label ? -1 : 1));
  }

  findings(): Finding[] {
    const found: Finding[] = this.#json.findings();
    const { count, places } = this.#empty;
    if (count > 0) {
      found.push({
        kind: "empty_answers",
        severity: "warning",
        file: this.#file,
        message: `${rows(count)} ${count === 1 ? "has" : "have"} an empty answer: the model learns to say nothing`,
        fix: "Write the answer, or leave the row out.",
        count,
        places,
      });
    }
    const oneWord = this.#oneWord;
    if (oneWord.count > 0 && this.#rows >= MIN_ROWS && oneWord.count <= this.#rows * (1 - MOST)) {
      found.push({
        kind: "one_word_answers",
        severity: "note",
        file: this.#file,
        message: `${rows(oneWord.count)} ${oneWord.count === 1 ? "is" : "are"} answered with a single word, most others with more`,
        fix: "Check that these answers are whole.",
        count: oneWord.count,
        places: oneWord.places,
      });
    }
    if (this.labels() !== null) found.push(...this.#labelVariants(), ...this.#rareLabels());
    return found;
  }

  #labelVariants(): Finding[] {
    const bySpelling = new Map<string, string>();
    const variants = new Places();
    // The most frequent spelling first: it is the one that is meant.
    for (const { label, count } of this.labels() ?? []) {
      const key = tidy(label)
        .replaceAll(/[\s.,;:!_-]+/g, " ")
        .trim();
      const usual = bySpelling.get(key);
      if (usual === undefined) bySpelling.set(key, label);
      else
        variants.add(
          this.#labels?.get(label)?.line ?? 0,
          `${JSON.stringify(label)} (${count}), elsewhere ${JSON.stringify(usual)}`,
        );
    }
    return variants.count === 0
      ? []
      : [
          {
            kind: "label_variants",
            severity: "warning",
            file: this.#file,
            message: `${variants.count} ${variants.count === 1 ? "label is" : "labels are"} written in more than one way`,
            fix: "Write each label the same way everywhere.",
            count: variants.count,
            places: variants.places,
          },
        ];
  }

  #rareLabels(): Finding[] {
    if (this.#file === "validation_file") return [];
    const rare = new Places();
    for (const { label, count } of this.labels() ?? []) {
      if (count < MIN_LABEL_ROWS)
        rare.add(this.#labels?.get(label)?.line ?? 0, `${JSON.stringify(label)}: ${rows(count)}`);
    }
    return rare.count === 0
      ? []
      : [
          {
            kind: "rare_labels",
            severity: "warning",
            file: this.#file,
            message: `${rare.count} ${rare.count === 1 ? "label has" : "labels have"} fewer than ${MIN_LABEL_ROWS} rows, too few to be learnt`,
            fix: "Write more rows for them, or merge them into another label.",
            count: rare.count,
            places: rare.places,
          },
        ];
  }
}

type Kind = "text" | "number" | "boolean" | "object" | "list";

/** Answers that are JSON objects: do they have the same keys, and is each key's value of one type. */
class JsonAnswers {
  readonly #file: DatasetParam;
  #rows = 0;
  #objects = 0;
  readonly #notJson = new Places();
  readonly #shapes: { line: number; kinds: Map<string, Kind | null> }[] = [];
  /** How often each set of keys occurs. */
  readonly #keySets = new Map<string, number>();
  readonly #keys = new Map<string, Map<Kind | null, number>>();

  constructor(file: DatasetParam) {
    this.#file = file;
  }

  add({ answer, line }: Row): void {
    this.#rows += 1;
    const object = jsonObject(answer);
    if (object === null) {
      this.#notJson.add(line, () => excerpt(answer, 40));
      return;
    }
    this.#objects += 1;
    if (this.#shapes.length >= MAX_JSON_ROWS || this.#keys.size > MAX_KEYS) return;
    const kinds = new Map(Object.entries(object).map(([key, value]) => [key, kindOf(value)]));
    this.#shapes.push({ line, kinds });
    const keySet = [...kinds.keys()].sort().join("\n");
    this.#keySets.set(keySet, (this.#keySets.get(keySet) ?? 0) + 1);
    for (const [key, kind] of kinds) {
      const counts = this.#keys.get(key) ?? new Map<Kind | null, number>();
      counts.set(kind, (counts.get(kind) ?? 0) + 1);
      this.#keys.set(key, counts);
    }
  }

  findings(): Finding[] {
    if (this.#rows < MIN_ROWS || this.#objects < this.#rows * MOST) return [];
    const found: Finding[] = [];
    if (this.#notJson.count > 0) {
      found.push({
        kind: "json_broken",
        severity: "warning",
        file: this.#file,
        message: `${rows(this.#notJson.count)} ${this.#notJson.count === 1 ? "has" : "have"} an answer that is no JSON object, all others have one`,
        fix: "Mend the JSON of these answers; a program that reads the model's answers would stumble over them.",
        count: this.#notJson.count,
        places: this.#notJson.places,
      });
    }
    if (this.#keys.size > MAX_KEYS) return found;
    const disagreeing = new Places();
    // Only where nearly all have the same keys: else keys come and go with what there is to say.
    const hasOneShape = Math.max(...this.#keySets.values()) >= this.#shapes.length * MOST;
    for (const { line, kinds } of this.#shapes) {
      const details = this.#complaints(kinds, hasOneShape);
      if (details.length > 0) disagreeing.add(line, details.slice(0, 3).join("; "));
    }
    if (disagreeing.count > 0) {
      found.push({
        kind: "json_shapes",
        severity: "warning",
        file: this.#file,
        message: `${rows(disagreeing.count)} ${disagreeing.count === 1 ? "has" : "have"} a JSON answer whose keys or types differ from nearly all others`,
        fix: "Give all answers the same keys, and each key one type; write null where there is no value.",
        count: disagreeing.count,
        places: disagreeing.places,
      });
    }
    return found;
  }

  #complaints(kinds: ReadonlyMap<string, Kind | null>, hasOneShape: boolean): string[] {
    const total = this.#shapes.length;
    const complaints: string[] = [];
    for (const [key, counts] of this.#keys) {
      const present = [...counts.values()].reduce((sum, count) => sum + count, 0);
      const has = kinds.has(key);
      if (hasOneShape && !has && present >= total * MOST) complaints.push(`lacks ${JSON.stringify(key)}`);
      if (hasOneShape && has && present <= total * (1 - MOST)) complaints.push(`has ${JSON.stringify(key)}`);
      const kind = kinds.get(key) ?? null;
      if (!has || kind === null) continue;
      // Null is a value of every type, so types are compared among the others.
      const [usual, count] = [...counts]
        .filter(([each]) => each !== null)
        .reduce((most, each) => (each[1] > most[1] ? each : most));
      if (kind !== usual && count >= (present - (counts.get(null) ?? 0)) * MOST)
        complaints.push(`has a ${kind} at ${JSON.stringify(key)}, elsewhere a ${usual}`);
    }
    return complaints;
  }
}

function jsonObject(text: string): Record<string, unknown> | null {
  if (!text.trimStart().startsWith("{")) return null;
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : null;
  } catch {
    return null;
  }
}

function kindOf(value: unknown): Kind | null {
  if (value === null) return null;
  if (Array.isArray(value)) return "list";
  if (typeof value === "string") return "text";
  return typeof value as "number" | "boolean" | "object";
}
