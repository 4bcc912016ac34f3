// Exports in their home, llama.cpp: a merged GGUF file and an adapter on the base model's file write, greedily, what the trained model
// writes here. Skipped where scripts/llama-env.sh has not put llama.cpp into .llama-cpp, and for the real model where it was not fetched.
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import { createChatTemplate } from "../../src/data/chat-template.ts";
import { createTokenizer } from "../../src/data/tokenizer.ts";
import { stopTokenIds } from "../../src/data/prompt.ts";
import { comparedPrompts } from "../../src/export/prompts.ts";
import { openModelWith } from "../../src/main/export-model.ts";
import { readAdapter } from "../../src/model/adapter.ts";
import { openBaseModel } from "../../src/model/base-model.ts";
import type { ExportPrecision } from "../../src/wire/export.ts";
import { cachedModel } from "../real-model.ts";
import { smollm2 } from "../smollm2.ts";
import { makeTinyQwen3 } from "../tiny-qwen3.ts";
import { exported, randomAdapter, tinyModel, unmeasured } from "./tiny-export.ts";

const ROOT = join(import.meta.dirname, "../..");
const hasLlama = existsSync(join(ROOT, ".llama-cpp/version"));
const gemma3 = await cachedModel("gemma-3-270m");
const COUNT = 16;
/** Loading and running five models; minutes on a busy machine. */
const TIMEOUT_MS = 900_000;

interface Request {
  model: string;
  lora?: string;
  prompts: number[][];
  count: number;
}

async function askLlama(
  requests: Request[],
): Promise<{ answers: number[][]; template: string; end: number[] }[]> {
  const running = promisify(execFile)(
    process.execPath,
    ["--import", "tsx", join(ROOT, "scripts/llama-greedy.ts")],
    {
      cwd: ROOT,
      maxBuffer: 2 ** 28,
      timeout: TIMEOUT_MS,
    },
  );
  running.child.stdin?.end(JSON.stringify(requests));
  return JSON.parse((await running).stdout) as { answers: number[][]; template: string; end: number[] }[];
}

/** What the trained model writes, what llama.cpp writes with the exports, and the shares of equal tokens before the first other one. */
async function compare(base: string, adapterDirectory: string, precisions: ExportPrecision[]) {
  const model = await openBaseModel(base);
  const encoding = {
    tokenizer: createTokenizer(model.tokenizer),
    template: createChatTemplate(model.tokenizer),
  };
  const { prompts } = await comparedPrompts([], encoding, 160);
  const trained = await openModelWith(2)(model, await readAdapter(adapterDirectory, model.config), 320);
  const plain = await openModelWith(2)(model, null, 320);
  const stops = new Set([...stopTokenIds(encoding), ...model.config.eosTokenIds]);
  const own: number[][] = [];
  const untrained: number[][] = [];
  for (const prompt of prompts) {
    own.push(await trained.write(prompt, COUNT, stops));
    if (untrained.length < 5) untrained.push(await plain.write(prompt, COUNT, stops));
  }
  await trained.release();
  await plain.release();

  const requests: Request[] = [];
  for (const precision of precisions) {
    const { directory } = await exported({ base, adapterDirectory, format: "gguf", precision }, unmeasured);
    requests.push({ model: join(directory, "model.gguf"), prompts, count: COUNT });
  }
  // The base model itself as a file: an adapter of zeros changes nothing.
  const nothing = await randomAdapter(base, {}, 0);
  const asFile = await exported(
    { base, adapterDirectory: nothing.directory, format: "gguf", precision: "f16" },
    unmeasured,
  );
  const lora = await exported({ base, adapterDirectory, format: "gguf-adapter" }, unmeasured);
  requests.push({
    model: join(asFile.directory, "model.gguf"),
    lora: join(lora.directory, "adapter.gguf"),
    prompts,
    count: COUNT,
  });
  const theirs = await askLlama(requests);
  await model.close();
  return { own, untrained, theirs, template: model.tokenizer.tokenizerConfig.chat_template };
}

const agreeing = (one: number[][], other: number[][]) =>
  one.reduce((sum, answer, i) => {
    const different = answer.findIndex((token, at) => token !== other[i]?.[at]);
    return sum + (different === -1 ? answer.length : different);
  }, 0) / one.flat().length;

describe.skipIf(!hasLlama)("in llama.cpp", () => {
  it(
    "a tiny model, merged and as an adapter, writes what it writes here",
    async () => {
      const base = await tinyModel();
      const { directory } = await randomAdapter(base);
      const { own, untrained, theirs, template } = await compare(base, directory, ["f16", "q8_0", "q4_0"]);
      const [f16, q8, q4, adapter] = theirs.map(({ answers }) => agreeing(own, answers));
      console.info(`tiny: f16 ${f16}, q8_0 ${q8}, q4_0 ${q4}, adapter ${adapter}`);
      expect(agreeing(untrained, own)).toBeLessThan(0.5);
      // Random weights have near ties, which llama.cpp's products of f16 turn: both ways of loading turn the same ones.
      expect(f16).toBeGreaterThan(0.9);
      expect(adapter).toBe(f16);
      expect(q8).toBeGreaterThan(0.5);
      for (const each of theirs.slice(0, 3)) {
        expect(each.template).toBe(template);
        expect(each.end).toContain(2);
      }
    },
    TIMEOUT_MS,
  );

  it.skipIf(smollm2 === null)(
    "SmolLM2: greedy tokens of 20 prompts are equal as F16 and as an adapter",
    async () => {
      const base = smollm2?.path ?? "";
      const { directory } = await randomAdapter(base, { rank: 8, alpha: 16 }, 0.06);
      const { own, untrained, theirs } = await compare(base, directory, ["f16", "q8_0", "q4_0"]);
      const [f16, q8, q4, adapter] = theirs.map(({ answers }) => agreeing(own, answers));
      console.info(`SmolLM2: f16 ${f16}, q8_0 ${q8}, q4_0 ${q4}, adapter ${adapter}`);
      expect(agreeing(untrained, own)).toBeLessThan(0.8);
      expect(theirs[0]?.answers).toEqual(own);
      expect(theirs[3]?.answers).toEqual(own);
      expect(q8).toBeGreaterThan(0.5);
      expect(q4).toBeGreaterThan(0.1);
    },
    TIMEOUT_MS,
  );

  it(
    "a tiny Qwen3, whose q and k keep their rows and have norms of their own",
    async () => {
      const base = await tinyModel();
      await makeTinyQwen3(base);
      const { directory } = await randomAdapter(base);
      const { own, untrained, theirs } = await compare(base, directory, ["f16"]);
      const [f16, adapter] = theirs.map(({ answers }) => agreeing(own, answers));
      console.info(`tiny Qwen3: f16 ${f16}, adapter ${adapter}`);
      expect(agreeing(untrained, own)).toBeLessThan(0.5);
      expect(f16).toBeGreaterThan(0.9);
      expect(adapter).toBeGreaterThan(0.9);
    },
    TIMEOUT_MS,
  );

  it.skipIf(gemma3 === null)(
    "Gemma 3, whose file is of K types: its tokenizer and template go along",
    async () => {
      const base = gemma3?.path ?? "";
      const { directory } = await randomAdapter(base, { rank: 8, alpha: 16 }, 0.06);
      const { own, untrained, theirs, template } = await compare(base, directory, ["f16"]);
      const [f16, adapter] = theirs.map(({ answers }) => agreeing(own, answers));
      console.info(`Gemma 3: f16 ${f16}, adapter ${adapter}`);
      expect(agreeing(untrained, own)).toBeLessThan(0.9);
      expect(f16).toBeGreaterThan(0.9);
      expect(adapter).toBeGreaterThan(0.9);
      expect(theirs[0]?.template).toBe(template);
    },
    TIMEOUT_MS,
  );
});
