// How far one model is from another, on the same prompts: the first writes answers greedily, then both are asked what they would
// have said at each place of them. The models are passed in as what scores tokens; it knows no files.
import type { ExportDistance } from "../wire/export.ts";

/** Whatever can read tokens and say what comes next. */
export interface ScoredModel {
  /** The logits [V] behind each token from `from` on, in order; only lent. */
  score(tokens: readonly number[], from: number, onLogits: (logits: Float32Array) => void): Promise<void>;
  /** The tokens it writes after a prompt, each the likeliest; ends with one of `stops`. */
  write(prompt: readonly number[], count: number, stops: ReadonlySet<number>): Promise<number[]>;
  release(): Promise<void>;
}

/** Tokens of an answer that are compared: a fault shows in the first few, and each costs a decode step. */
export const ANSWER_TOKENS = 16;

/** An answer of the trained model and what it thought at each of its places. */
export interface ReferenceAnswer {
  /** Prompt and answer, but for the last token, which nothing is asked behind. */
  tokens: number[];
  /** The first place that is compared. */
  from: number;
  /** [V] each. */
  logits: Float32Array[];
}

/** Bytes: prompts times answer tokens times vocabulary, 63 MB at 49,152 tokens. */
export async function referenceAnswers(
  model: ScoredModel,
  prompts: readonly (readonly number[])[],
  stops: ReadonlySet<number>,
): Promise<ReferenceAnswer[]> {
  const answers: ReferenceAnswer[] = [];
  for (const prompt of prompts) {
    const answer = await model.write(prompt, ANSWER_TOKENS, stops);
    const tokens = [...prompt, ...answer.slice(0, -1)];
    const from = prompt.length - 1;
    const logits: Float32Array[] = [];
    // Read again in one piece, as the other model will be: equal weights then give equal bits.
    await model.score(tokens, from, (row) => logits.push(row.slice()));
    answers.push({ tokens, from, logits });
  }
  return answers;
}

export type MeasuredDistance = Omit<ExportDistance, "bounds" | "prompts_from" | "prompts_sha256">;

/** Of another model from the one that gave the answers. */
export async function distanceFrom(
  answers: readonly ReferenceAnswer[],
  model: ScoredModel,
): Promise<MeasuredDistance> {
  const sums = { tokens: 0, equalTokens: 0, equalPrompts: 0, largest: 0, difference: 0, values: 0, kl: 0 };
  for (const { tokens, from, logits } of answers) {
    let place = 0;
    let isEqual = true;
    await model.score(tokens, from, (actual) => {
      const expected = logits[place] as Float32Array;
      place += 1;
      sums.tokens += 1;
      if (likeliest(actual) === likeliest(expected)) sums.equalTokens += 1;
      else isEqual = false;
      for (let i = 0; i < expected.length; i++) {
        const difference = Math.abs((expected[i] as number) - (actual[i] as number));
        // Of NaN and a number this is NaN, and stays so: every comparison with a bound must fail.
        sums.largest = Math.max(sums.largest, difference);
        sums.difference += difference;
      }
      sums.values += expected.length;
      sums.kl += divergence(expected, actual);
    });
    if (place !== logits.length) throw new Error("internal: the models were asked at different places");
    if (isEqual) sums.equalPrompts += 1;
  }
  return {
    prompts: answers.length,
    tokens: sums.tokens,
    equal_tokens: sums.equalTokens,
    equal_prompts: sums.equalPrompts,
    max_logit_difference: sums.largest,
    mean_logit_difference: sums.difference / sums.values,
    mean_kl: sums.kl / sums.tokens,
  };
}

function likeliest(logits: Float32Array): number {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if ((logits[i] as number) > (logits[best] as number)) best = i;
  return best;
}

/** Kullback-Leibler divergence KL(p‖q) of two softmax distributions, in nats. */
export function divergence(p: Float32Array, q: Float32Array): number {
  const logSumOf = (logits: Float32Array): number => {
    const top = logits.reduce((most, value) => Math.max(most, value), -Infinity);
    let sum = 0;
    for (const value of logits) sum += Math.exp(value - top);
    return top + Math.log(sum);
  };
  const [logP, logQ] = [logSumOf(p), logSumOf(q)];
  let sum = 0;
  for (let i = 0; i < p.length; i++) {
    const logarithm = (p[i] as number) - logP;
    sum += Math.exp(logarithm) * (logarithm - ((q[i] as number) - logQ));
  }
  // Rounding may leave a negative zero's worth.
  return sum < 0 && sum > -1e-9 ? 0 : sum;
}
