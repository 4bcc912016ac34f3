// Log-probabilities of tokens under a model's logits, as they are before anything changes them. Numbers, no text.

export interface TokenScore {
  token: number;
  /** Natural logarithm of the probability. */
  logprob: number;
}

export interface ScoredToken extends TokenScore {
  /** The most likely tokens, best first. */
  top: TokenScore[];
}

/** `logits` [V] at temperature 1. */
export function scoreToken(logits: Float32Array, token: number, topCount: number): ScoredToken {
  let max = -Infinity;
  for (const logit of logits) if (logit > max) max = logit;
  let total = 0;
  for (const logit of logits) total += Math.exp(logit - max);
  const log = max + Math.log(total);
  const score = (id: number): TokenScore => ({ token: id, logprob: (logits[id] as number) - log });
  return { ...score(token), top: largest(logits, topCount).map(score) };
}

/** Indexes of the largest, in falling order; of equals the first. */
function largest(logits: Float32Array, count: number): number[] {
  const best: number[] = [];
  if (count === 0) return best;
  for (let i = 0; i < logits.length; i++) {
    const logit = logits[i] as number;
    if (best.length === count && logit <= (logits[best.at(-1) as number] as number)) continue;
    let at = best.length;
    while (at > 0 && (logits[best[at - 1] as number] as number) < logit) at -= 1;
    best.splice(at, 0, i);
    if (best.length > count) best.pop();
  }
  return best;
}
