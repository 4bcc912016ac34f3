// Which waiting prompts the model reads in its next pass. Numbers only: it knows no caches, no rows and no text.
import { MAX_PADDING_SCORES } from "../data/batches.ts";

/**
 * Prompt tokens of a pass that several short prompts share. More tokens a second hardly come of more (a matrix product is
 * near its full speed from 128 rows on); but until a prompt is read, its row of every decode step stays empty. The event
 * loop stands still for a pass: under a second at 135M parameters on two cores.
 */
export const PROMPT_PASS_TOKENS = 512;

/** A prompt with more tokens than this is read in pieces of so many; between two of them answers move on. */
export const PROMPT_CHUNK_TOKENS = 256;

/**
 * A prompt whose tokens are scored is read in pieces of so many: behind each of them stand the logits of the whole vocabulary,
 * 0.2 MB at SmolLM2's and 0.6 MB at Qwen's.
 */
export const SCORED_CHUNK_TOKENS = 64;

export function isLong(promptTokens: number): boolean {
  return promptTokens > PROMPT_CHUNK_TOKENS;
}

/**
 * How many of these short prompts, in their order, share one pass: within its tokens, and as long as padding them to the
 * longest costs less than another pass would. At least one, where there are any.
 */
export function sharePass(lengths: readonly number[]): number {
  let [tokens, scores, longest] = [0, 0, 0];
  for (const [count, length] of lengths.entries()) {
    tokens += length;
    scores += length ** 2;
    longest = Math.max(longest, length);
    const padding = (count + 1) * longest ** 2 - scores;
    if (count > 0 && (tokens > PROMPT_PASS_TOKENS || padding > MAX_PADDING_SCORES)) return count;
  }
  return lengths.length;
}
