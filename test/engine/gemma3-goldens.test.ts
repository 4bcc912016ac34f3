// The real Gemma 3 270M, from its Q4_K_M file, against transformers: logits behind a prompt and greedy tokens, also where the
// prompt is longer than the window. Its tokenizer and chat form are tested in src/data/gemma3.test.ts. Skipped where the model
// is not in the cache.
import { gemma3, gemma3Goldens } from "../gemma3.ts";
import { testGenerator } from "./real-generator.ts";

/** Two float32 implementations differ by some 1e-4 in a logit; the logits are near 20. */
const LOGIT_TOLERANCE = 2e-3;
const LONGEST_CHAT = 1024;
const TIMEOUT_MS = 180_000;

testGenerator("Gemma 3", gemma3, gemma3Goldens, {
  logitTolerance: LOGIT_TOLERANCE,
  longestChat: LONGEST_CHAT,
  timeoutMs: TIMEOUT_MS,
});
