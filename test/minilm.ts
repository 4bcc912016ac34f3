// The real all-MiniLM-L6-v2 for the tests that need it, where `npx tunesmith models pull all-minilm-l6-v2` or a server has
// already fetched it into the cache; nothing is downloaded here.
import { loadConfig } from "../src/config.ts";
import { DEFAULT_EMBEDDING_MODEL } from "../src/model/catalogue.ts";
import { resolveBaseModel } from "../src/model/resolve-base-model.ts";
import type { ResolvedBaseModel } from "../src/model/resolve-base-model.ts";

const { homeDirectory, hubUrl } = loadConfig();

/** Null without the model: tests are then skipped by name. */
export const minilm: ResolvedBaseModel | null = await resolveBaseModel(DEFAULT_EMBEDDING_MODEL, {
  homeDirectory,
  hubUrl,
  offline: true,
}).catch(() => null);
