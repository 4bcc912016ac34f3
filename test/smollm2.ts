// The real SmolLM2, and what transformers made of it.
import { DEFAULT_BASE_MODEL } from "../src/model/catalogue.ts";
import { modelDirectory } from "../src/model/resolve-base-model.ts";
import { cachedModel, homeDirectory, realModelGoldens } from "./real-model.ts";

export { DEFAULT_BASE_MODEL as SMOLLM2 };

export const smollm2 = await cachedModel(DEFAULT_BASE_MODEL);

/** Where it lies in the cache. */
export const SMOLLM2_FOLDER = modelDirectory(homeDirectory, DEFAULT_BASE_MODEL);

export const smollm2Goldens = realModelGoldens("smollm2.json");
