// The real SmolLM2 for the tests that need it, where a quickstart or `npx tunesmith models pull smollm2-135m-instruct` has
// already fetched it into the cache; nothing is downloaded here. And what transformers made of it (scripts/make-goldens.py).
import { readFileSync } from "node:fs";
import type { ChatMessage } from "../src/data/chat-message.ts";
import { loadConfig } from "../src/config.ts";
import { DEFAULT_BASE_MODEL } from "../src/model/catalogue.ts";
import { modelDirectory, resolveBaseModel } from "../src/model/resolve-base-model.ts";
import type { ResolvedBaseModel } from "../src/model/resolve-base-model.ts";

export { DEFAULT_BASE_MODEL as SMOLLM2 };

const { homeDirectory, hubUrl } = loadConfig();

/** Null without the model: tests are then skipped by name. */
export const smollm2: ResolvedBaseModel | null = await resolveBaseModel(DEFAULT_BASE_MODEL, {
  homeDirectory,
  hubUrl,
  offline: true,
}).catch(() => null);

/** Where it lies in the cache. */
export const SMOLLM2_FOLDER = modelDirectory(homeDirectory, DEFAULT_BASE_MODEL);

export interface SmolLM2Goldens {
  chats: {
    name: string;
    messages: ChatMessage[];
    text: string;
    ids: number[];
    top5: { ids: number[]; logits: number[] };
    /** The plain argmax, with the end token where it came. */
    greedy: { ids: number[]; text: string };
  }[];
  tokenizer: { text: string; ids: number[] }[];
}

export const smollm2Goldens = JSON.parse(
  readFileSync(new URL("goldens/smollm2.json", import.meta.url), "utf8"),
) as SmolLM2Goldens;
