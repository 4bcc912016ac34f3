// The real Gemma 3 270M for the tests that need it, where `npx tunesmith models pull gemma-3-270m` has already fetched it into
// the cache; nothing is downloaded here. And what transformers made of it (scripts/make-goldens.py).
import { readFileSync } from "node:fs";
import { loadConfig } from "../src/config.ts";
import type { ChatMessage } from "../src/data/chat-message.ts";
import { resolveBaseModel } from "../src/model/resolve-base-model.ts";
import type { ResolvedBaseModel } from "../src/model/resolve-base-model.ts";

const { homeDirectory, hubUrl } = loadConfig();

/** Null without the model: tests are then skipped by name. */
export const gemma3: ResolvedBaseModel | null = await resolveBaseModel("gemma-3-270m", {
  homeDirectory,
  hubUrl,
  offline: true,
}).catch(() => null);

export interface Gemma3Goldens {
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

export const gemma3Goldens = JSON.parse(
  readFileSync(new URL("goldens/gemma3.json", import.meta.url), "utf8"),
) as Gemma3Goldens;
