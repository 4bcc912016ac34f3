// How far the files of an export may be from the trained model, by format and precision. docs/export.md gives the reasons and what was
// measured; beyond its bound an export is refused.
import { UnsupportedModel } from "../errors.ts";
import type { ExportDistance, ExportFormat, ExportPrecision } from "../wire/export.ts";

type Bounds = ExportDistance["bounds"];

/** The same numbers through the same arithmetic. */
const EXACT: Bounds = { min_equal_tokens: 1, max_logit_difference: 0, max_mean_kl: 0 };

/** Merging adds before it multiplies, in another order of rounding; f32 itself then loses nothing. */
const MERGED: Record<ExportPrecision, Bounds> = {
  f32: { min_equal_tokens: 0.99, max_logit_difference: 0.01, max_mean_kl: 1e-6 },
  f16: { min_equal_tokens: 0.97, max_logit_difference: 1, max_mean_kl: 0.001 },
  bf16: { min_equal_tokens: 0.9, max_logit_difference: 8, max_mean_kl: 0.02 },
  q8_0: { min_equal_tokens: 0.9, max_logit_difference: 8, max_mean_kl: 0.02 },
  q4_0: { min_equal_tokens: 0.6, max_logit_difference: 40, max_mean_kl: 0.5 },
};

export function boundsOf(format: ExportFormat, precision: ExportPrecision | null): Bounds {
  if (format === "peft" || format === "gguf-adapter") return EXACT;
  if (precision === null) throw new Error(`internal: ${format} has no precision`);
  return MERGED[precision];
}

/** Throws UnsupportedModel, with all the numbers, for an export beyond its bounds. */
export function requireWithinBounds(
  distance: Omit<ExportDistance, "prompts_from" | "prompts_sha256">,
  what: string,
): void {
  const { bounds } = distance;
  const share = distance.equal_tokens / distance.tokens;
  // Written so that NaN fails.
  const isWithin =
    share >= bounds.min_equal_tokens &&
    distance.max_logit_difference <= bounds.max_logit_difference &&
    distance.mean_kl <= bounds.max_mean_kl;
  if (isWithin) return;
  throw new UnsupportedModel(
    `The export was refused and removed: ${what}, read back, is too far from the trained model. ` +
      `Greedy tokens equal: ${distance.equal_tokens} of ${distance.tokens} (at least ${100 * bounds.min_equal_tokens} % expected); ` +
      `largest difference of logits: ${distance.max_logit_difference} (at most ${bounds.max_logit_difference}); ` +
      `mean KL divergence: ${distance.mean_kl} nats a token (at most ${bounds.max_mean_kl}). Take a precision with more bits.`,
    { code: "export_too_far", param: "precision" },
  );
}
