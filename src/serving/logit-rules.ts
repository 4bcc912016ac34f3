// What moves logits before a token is chosen: logit_bias and the frequency and presence penalties. Plain numbers, no text.

/** Changes logits in place before each choice and is told what was chosen. */
export interface LogitRule {
  /** `logits` [V]. */
  apply(logits: Float32Array): void;
  accept(token: number): void;
}

/** Adds a number to some tokens' logits, of ids that the model has. */
export function createBias(bias: ReadonlyMap<number, number>): LogitRule {
  return {
    apply(logits) {
      for (const [token, change] of bias) logits[token] = (logits[token] as number) + change;
    },
    accept() {},
  };
}

/** For each token of the answer so far: frequency times how often it came, and presence once. */
export function createPenalties({ frequency, presence }: { frequency: number; presence: number }): LogitRule {
  const counts = new Map<number, number>();
  return {
    apply(logits) {
      for (const [token, count] of counts) {
        logits[token] = (logits[token] as number) - frequency * count - presence;
      }
    },
    accept: (token) => void counts.set(token, (counts.get(token) ?? 0) + 1),
  };
}
