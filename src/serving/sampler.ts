// Chooses the next token from logits. Plain numbers, no text.
import { createRandom } from "../random.ts";
import type { Random } from "../random.ts";
import { scoreToken } from "./log-probabilities.ts";
import type { ScoredToken } from "./log-probabilities.ts";
import type { LogitRule } from "./logit-rules.ts";

export interface SamplingOptions {
  /** 0: always the most likely token. */
  temperature: number;
  /** Only the most likely tokens that together reach this probability are drawn from; 1: all. */
  topP: number;
  seed: number;
  /** Applied in order before temperature and top_p. */
  rules?: readonly LogitRule[];
  /** Told of each choice with its score among so many most likely tokens, all under the logits as the model gave them. */
  scores?: { topCount: number; onScore: (score: ScoredToken) => void };
}

export interface Sampler {
  /** `logits` [V]; left as they are. */
  sample(logits: Float32Array): number;
}

export function createSampler({ temperature, topP, seed, rules = [], scores }: SamplingOptions): Sampler {
  const random = createRandom(seed);
  return {
    sample: (logits) => {
      const moved = rules.length === 0 ? logits : logits.slice();
      for (const rule of rules) rule.apply(moved);
      const token = temperature === 0 ? mostLikely(moved) : draw(moved, temperature, topP, random);
      if (!Number.isFinite(moved[token])) throw new Error("internal: the model's output is not finite");
      for (const rule of rules) rule.accept(token);
      scores?.onScore(scoreToken(logits, token, scores.topCount));
      return token;
    },
  };
}

/** The first of the largest. */
export function mostLikely(logits: Float32Array): number {
  let best = 0;
  let bestLogit = -Infinity;
  for (let i = 0; i < logits.length; i++) {
    const logit = logits[i] as number;
    if (logit > bestLogit) {
      best = i;
      bestLogit = logit;
    }
  }
  return best;
}

function draw(logits: Float32Array, temperature: number, topP: number, random: Random): number {
  const max = logits[mostLikely(logits)] as number;
  const weights = new Float64Array(logits.length);
  let total = 0;
  for (let i = 0; i < logits.length; i++) {
    const weight = Math.exp(((logits[i] as number) - max) / temperature);
    weights[i] = weight;
    total += weight;
  }
  if (topP >= 1) return pick(weights, null, random.next() * total);
  return drawFromNucleus(weights, total, topP, random);
}

/** Nucleus sampling, arXiv:1904.09751. */
function drawFromNucleus(weights: Float64Array, total: number, topP: number, random: Random): number {
  // Tokens below this share cannot be in the nucleus: all of them together weigh less than what it leaves out.
  const negligible = (total * (1 - topP)) / weights.length;
  const candidates: number[] = [];
  for (let i = 0; i < weights.length; i++) if ((weights[i] as number) >= negligible) candidates.push(i);
  candidates.sort((a, b) => (weights[b] as number) - (weights[a] as number));
  let mass = 0;
  let count = 0;
  while (count < candidates.length && (count === 0 || mass < total * topP)) {
    mass += weights[candidates[count] as number] as number;
    count += 1;
  }
  return pick(weights, candidates.slice(0, count), random.next() * mass);
}

/** The token at which the running sum passes `target`. */
function pick(weights: Float64Array, candidates: readonly number[] | null, target: number): number {
  const count = candidates?.length ?? weights.length;
  let sum = 0;
  for (let i = 0; i < count; i++) {
    const token = candidates === null ? i : (candidates[i] as number);
    sum += weights[token] as number;
    if (sum > target) return token;
  }
  // Rounding may leave the sum a hair short of the target: then it is the last that could be drawn at all.
  if (candidates !== null) return candidates[count - 1] as number;
  let last = count - 1;
  while (last > 0 && weights[last] === 0) last -= 1;
  return last;
}
