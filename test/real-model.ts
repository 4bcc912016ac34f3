// Real base models for the tests that need one, where `npx tunesmith models pull` or a quickstart has already fetched it into the
// cache; nothing is downloaded here. And what transformers made of them (scripts/make-goldens.py).
import { readFileSync } from "node:fs";
import { loadConfig } from "../src/config.ts";
import type { ChatMessage } from "../src/data/chat-message.ts";
import { resolveBaseModel } from "../src/model/resolve-base-model.ts";
import type { ResolvedBaseModel } from "../src/model/resolve-base-model.ts";

const { homeDirectory, hubUrl } = loadConfig();

export { homeDirectory };

/** Null without the model: tests are then skipped by name. */
export async function cachedModel(id: string): Promise<ResolvedBaseModel | null> {
  return resolveBaseModel(id, { homeDirectory, hubUrl, offline: true }).catch(() => null);
}

export interface RealModelGoldens {
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

/** `file`: below test/goldens. */
export function realModelGoldens(file: string): RealModelGoldens {
  return JSON.parse(readFileSync(new URL(`goldens/${file}`, import.meta.url), "utf8")) as RealModelGoldens;
}
