// The real Gemma 3 270M, its base model, and what transformers made of it.
import { cachedModel, realModelGoldens } from "./real-model.ts";

export const gemma3 = await cachedModel("gemma-3-270m");
export const gemma3Goldens = realModelGoldens("gemma3.json");
