// How many tokens a text has at least, told from its bytes without encoding it: what cannot fit is refused in milliseconds.

/** Characters looked at between two comparisons with what is enough. */
const PIECE_LENGTH = 16_384;

const encoder = new TextEncoder();

/**
 * Each byte counts as its share of the longest token that has it. A token's bytes then count at most 1 together, so their sum over
 * a text is no more than its tokens. `normalize` is what the tokenizer does to a text before it looks at its bytes.
 */
export function createTokenBound(
  tokens: readonly Uint8Array[],
  normalize: (text: string) => string,
): (text: string, enough: number) => number {
  const longest = new Uint32Array(256);
  for (const token of tokens)
    for (const byte of token) longest[byte] = Math.max(longest[byte] as number, token.length);
  // A byte that no token has may be left out of the ids, so it counts nothing.
  const shares = Float64Array.from(longest, (length) => (length === 0 ? 0 : 1 / length));
  return (text, enough) => {
    let sum = 0;
    for (let start = 0; start < text.length && sum <= enough + 1;) {
      const end = cutBehind(text, start + PIECE_LENGTH);
      for (const byte of encoder.encode(normalize(text.slice(start, end)))) sum += shares[byte] as number;
      start = end;
    }
    // Below the sum by what adding may have rounded up.
    return Math.floor(sum * (1 - 1e-9));
  };
}

const LAST_ASCII = 0x7f;

/** From `at` on, the first place before an ASCII character: none joins with what stands before it. */
function cutBehind(text: string, at: number): number {
  let end = at;
  while (end < text.length && text.charCodeAt(end) > LAST_ASCII) end++;
  return Math.min(end, text.length);
}
