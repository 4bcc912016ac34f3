// Exports in their home, transformers and PEFT: the same logits, the same prompt, the same greedy answer and the same end as here.
// Skipped where scripts/python-env.sh has not made the Python environment.
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import { createChatTemplate } from "../../src/data/chat-template.ts";
import { encodePrompt } from "../../src/data/prompt.ts";
import { createTokenizer } from "../../src/data/tokenizer.ts";
import { openModelWith } from "../../src/main/export-model.ts";
import { readAdapter } from "../../src/model/adapter.ts";
import { openBaseModel } from "../../src/model/base-model.ts";
import { relativeError } from "../engine/goldens.ts";
import { smollm2 } from "../smollm2.ts";
import { exported, randomAdapter, tinyModel, unmeasured } from "./tiny-export.ts";

const ROOT = join(import.meta.dirname, "../..");
const PYTHON = join(ROOT, ".venv-goldens/bin/python");
/** Importing torch takes most of it, minutes on a busy machine with cold disks. */
const TIMEOUT_MS = 900_000;
const COUNT = 12;

interface Case {
  folder: string;
  base: string | null;
}

async function load(cases: Case[], shared: object) {
  const running = promisify(execFile)(PYTHON, [join(ROOT, "scripts/load-export.py")], {
    maxBuffer: 2 ** 29,
    timeout: TIMEOUT_MS,
  });
  running.child.stdin?.end(JSON.stringify(cases.map((each) => ({ ...each, ...shared }))));
  return JSON.parse((await running).stdout) as {
    logits: number[][];
    ids: number[];
    end: number[];
    answer: number[];
  }[];
}

const messages = [
  { role: "user" as const, content: "Where is my order? It's  number 1234." },
  { role: "assistant" as const, content: "On its way.\n\nAnything else?" },
  { role: "user" as const, content: "Zwölf €, please." },
];

/** Exports, has Python load them, and compares each with the trained model here. */
async function compare(base: string, adapterDirectory: string, cases: Case[], tolerance: number) {
  const model = await openBaseModel(base);
  const encoding = {
    tokenizer: createTokenizer(model.tokenizer),
    template: createChatTemplate(model.tokenizer),
  };
  const prompt = encodePrompt(messages, undefined, encoding);
  const trained = await openModelWith(2)(model, await readAdapter(adapterDirectory, model.config), 320);
  const logits: number[] = [];
  await trained.score(prompt, 0, (row) => logits.push(...row));
  const answer = await trained.write(prompt, COUNT, new Set(model.config.eosTokenIds));
  await trained.release();
  await model.close();
  for (const found of await load(cases, { sequences: [prompt], messages, prompt, count: COUNT })) {
    expect(found.ids).toEqual(prompt);
    expect(relativeError(Float32Array.from(logits), found.logits[0] ?? [])).toBeLessThan(tolerance);
    expect(found.answer).toEqual(answer);
    expect(found.end).toEqual(model.config.eosTokenIds);
  }
}

describe.skipIf(!existsSync(PYTHON))("in transformers and PEFT", () => {
  it(
    "a tiny model, merged and as an adapter",
    async () => {
      const base = await tinyModel();
      const { directory: adapterDirectory } = await randomAdapter(base);
      const merged = await exported({ base, adapterDirectory, format: "merged", precision: "f32" });
      const peft = await exported({ base, adapterDirectory, format: "peft" });
      const cases = [
        { folder: merged.directory, base: null },
        { folder: peft.directory, base },
      ];
      await compare(base, adapterDirectory, cases, 1e-4);
    },
    TIMEOUT_MS,
  );

  it.skipIf(smollm2 === null)(
    "SmolLM2, whose base model is a GGUF file: the merged folder is made of its metadata",
    async () => {
      const base = smollm2?.path ?? "";
      const { directory: adapterDirectory } = await randomAdapter(base, { rank: 8, alpha: 16 }, 0.06);
      const merged = await exported(
        { base, adapterDirectory, format: "merged", precision: "f32" },
        unmeasured,
      );
      await compare(base, adapterDirectory, [{ folder: merged.directory, base: null }], 1e-4);
    },
    TIMEOUT_MS,
  );
});
