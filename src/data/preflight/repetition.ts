// Rows that occur more than once: exact and near duplicates, the same question with different answers, and training rows in
// the validation file. It keeps a few hundred bytes a row, of so many rows.
import { hash } from "node:crypto";
import type { DatasetParam } from "../dataset.ts";
import { isNear, nearPairs, signatureOf } from "./min-hash.ts";
import { Places, rows } from "./report.ts";
import type { Finding } from "./report.ts";
import type { Row } from "./row.ts";
import { excerpt, tidy } from "./row.ts";

/** Rows compared with each other, both files together: 60 MB at the most. */
export const MAX_COMPARED_ROWS = 50_000;

/**
 * Answers up to this many characters are decisions (a label, a number, a yes), which two rows should agree on; longer ones
 * may well be put differently.
 */
const DECISION_CHARACTERS = 60;

/** A row long enough to be compared with others word by word. */
interface LongRow {
  file: DatasetParam;
  line: number;
  signature: Uint32Array;
  /** Of the answer, which must be nearly the same by itself: many questions may be asked of one long text. */
  answer: Uint32Array | string;
}

interface Seen {
  line: number;
  answer: string;
  /** As it was written, where it is a decision; null: it is none. */
  decision: string | null;
}

export class Repetition {
  /** Rows that were not compared. */
  skipped = 0;
  #compared = 0;
  readonly #exact = { training_file: new Map<string, number>(), validation_file: new Map<string, number>() };
  readonly #questions = { training_file: new Map<string, Seen>(), validation_file: new Map<string, Seen>() };
  readonly #long: LongRow[] = [];
  readonly #duplicates = { training_file: new Places(), validation_file: new Places() };
  readonly #conflicts = { training_file: new Places(), validation_file: new Places() };
  readonly #leaked = new Places();

  add(row: Row): void {
    if (this.#compared >= MAX_COMPARED_ROWS) {
      this.skipped += 1;
      return;
    }
    this.#compared += 1;
    const { file, line } = row;
    const question = digest(row.question);
    if (file === "validation_file") {
      const earlier = this.#questions.training_file.get(question);
      if (earlier !== undefined) {
        this.#leaked.add(line, `the question of training line ${earlier.line}`);
        return;
      }
    }
    const answer = digest(tidy(row.answer));
    const whole = digest(JSON.stringify(row.messages));
    const first = this.#exact[file].get(whole);
    if (first !== undefined) {
      this.#duplicates[file].add(line, `line ${first} again`);
      return;
    }
    this.#exact[file].set(whole, line);
    this.#compareAnswers(row, question, answer);
    const signature = signatureOf(`${row.userText}\n${row.answer}`);
    if (signature !== null)
      this.#long.push({ file, line, signature, answer: signatureOf(row.answer) ?? answer });
  }

  #compareAnswers(row: Row, question: string, answer: string): void {
    const seen = this.#questions[row.file].get(question);
    const decision = row.answer.length <= DECISION_CHARACTERS && row.answer.trim() !== "" ? row.answer : null;
    if (seen === undefined) this.#questions[row.file].set(question, { line: row.line, answer, decision });
    else if (seen.answer !== answer && seen.decision !== null && row.answer.length <= DECISION_CHARACTERS) {
      this.#conflicts[row.file].add(
        row.line,
        `"${excerpt(row.answer)}", but line ${seen.line} has "${excerpt(seen.decision)}"`,
      );
    }
  }

  async findings(): Promise<Finding[]> {
    const near = { training_file: new Places(), validation_file: new Places() };
    const nearLeaked = new Places();
    const at = (index: number) => this.#long[index] as LongRow;
    const pairs = await nearPairs(
      this.#long.map(({ signature }) => signature),
      (a, b) => isNearAnswer(at(a).answer, at(b).answer),
    );
    for (const [earlier, later] of pairs.map(([a, b]) => [at(a), at(b)] as const)) {
      if (earlier.file === later.file) near[later.file].add(later.line, `nearly line ${earlier.line}`);
      else nearLeaked.add(later.line, `nearly training line ${earlier.line}`);
    }
    return [
      finding("leakage", this.#leaked, {
        message: `${rows(this.#leaked.count)} of the validation file ${ask(this.#leaked.count)} what the training file asks, so the validation loss will look better than the model is`,
        fix: "Take these rows out of one of the two files.",
        file: "validation_file",
      }),
      finding("near_leakage", nearLeaked, {
        message: `${rows(nearLeaked.count)} of the validation file ${are(nearLeaked.count)} nearly the same as a training row`,
        fix: "Take these rows out of one of the two files, or split the data by source before it is varied.",
        file: "validation_file",
      }),
      ...(["training_file", "validation_file"] as const).flatMap((file) => [
        finding("conflicting_answers", this.#conflicts[file], {
          message: `${rows(this.#conflicts[file].count)} ${ask(this.#conflicts[file].count)} what an earlier row asks, word for word, and ${have(this.#conflicts[file].count)} another answer`,
          fix: "Decide which answer is right; the model cannot learn both.",
          file,
        }),
        finding("exact_duplicates", this.#duplicates[file], {
          message: `${rows(this.#duplicates[file].count)} ${are(this.#duplicates[file].count)} an exact copy of an earlier row`,
          fix: "Remove the copies, unless they are meant to weigh more: each epoch trains on every copy.",
          file,
        }),
        finding("near_duplicates", near[file], {
          message: `${rows(near[file].count)} ${are(near[file].count)} nearly the same as an earlier row`,
          fix: "Keep one of each, or make them differ in what matters.",
          file,
        }),
      ]),
    ].filter((found) => found.count > 0);
  }
}

function isNearAnswer(a: Uint32Array | string, b: Uint32Array | string): boolean {
  return typeof a === "string" || typeof b === "string" ? a === b : isNear(a, b);
}

function finding(
  kind: string,
  { count, places }: Places,
  rest: Pick<Finding, "message" | "fix" | "file">,
): Finding {
  return { kind, severity: "warning", count, places, ...rest };
}

const are = (count: number) => (count === 1 ? "is" : "are");
const have = (count: number) => (count === 1 ? "has" : "have");
const ask = (count: number) => (count === 1 ? "asks" : "ask");

/** 80 bits: among 50,000 rows two different ones are taken for equal once in 10^15 files. */
function digest(text: string): string {
  return hash("sha256", text, "base64").slice(0, 14);
}
