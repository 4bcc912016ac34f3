// The adapter that training writes, loaded by PEFT: the same logits there as here. Skipped where scripts/python-env.sh has not
// made the Python environment.
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, describe, expect, it } from "vitest";
import { openBaseModel } from "../../src/model/base-model.ts";
import { loadDecoderWeights } from "../../src/model/decoder-weights.ts";
import { LORA_TARGETS } from "../../src/model/lora-targets.ts";
import { createRandom } from "../../src/random.ts";
import { AdapterPool } from "../../src/serving/adapter-pool.ts";
import { Generator } from "../../src/serving/generator.ts";
import { saveAdapter } from "../../src/training/checkpoint.ts";
import type { JobRecipe } from "../../src/training/job-directory.ts";
import { LoraParameters } from "../../src/training/lora-parameters.ts";
import type { LoraPlan } from "../../src/training/lora-parameters.ts";
import { GOLDEN_FOLDER, relativeError } from "./goldens.ts";

const ROOT = join(import.meta.dirname, "../..");
const PYTHON = join(ROOT, ".venv-goldens/bin/python");
const TOLERANCE = 1e-4;

/** Importing torch takes most of it, minutes on a busy machine with cold disks. */
const PYTHON_TIMEOUT_MS = 300_000;

const SEQUENCES = [
  [1, 5, 9, 2, 30, 31, 7],
  [4, 4, 17],
];

const CASES: { model: string; lora: LoraPlan }[] = [
  { model: "tiny-llama", lora: { rank: 4, alpha: 8, dropout: 0.1, targetModules: LORA_TARGETS } },
  // A scale that is no power of two, and only some of the layers.
  { model: "tiny-llama", lora: { rank: 3, alpha: 7, dropout: 0, targetModules: ["v_proj", "down_proj"] } },
  { model: "tiny-qwen3", lora: { rank: 4, alpha: 8, dropout: 0, targetModules: LORA_TARGETS } },
  { model: "tiny-gemma3", lora: { rank: 4, alpha: 8, dropout: 0, targetModules: LORA_TARGETS } },
];

const folders: string[] = [];
afterAll(async () => {
  for (const folder of folders) await rm(folder, { recursive: true });
});

/** Saves random parameters the way the trainer saves its own. */
async function saveRandomAdapter(base: string, lora: LoraPlan, baseId = "tiny"): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "tunesmith-peft-"));
  folders.push(folder);
  const model = await openBaseModel(base);
  const parameters = new LoraParameters(model.config, lora);
  await model.close();
  const random = createRandom(8);
  for (let i = 0; i < parameters.data.length; i++) parameters.data[i] = random.next() - 0.5;
  const recipe = { lora, baseModel: { id: baseId, path: base, sha256: "" } } as unknown as JobRecipe;
  const adapter = join(folder, "adapter");
  await saveAdapter(adapter, parameters, recipe);
  return adapter;
}

/** All positions' logits [T * V] of each sequence. */
async function ourLogits(base: string, adapter: string): Promise<Float32Array[]> {
  const model = await openBaseModel(base);
  const generator = new Generator({
    config: model.config,
    weights: loadDecoderWeights(model, 32),
    threads: 1,
  });
  const loaded = await new AdapterPool(model.config).get(adapter);
  const logits: Float32Array[] = [];
  for (const sequence of SEQUENCES) {
    const rows: number[] = [];
    for (let length = 1; length <= sequence.length; length++) {
      rows.push(...(await generator.readPrompt(sequence.slice(0, length), loaded)).logits);
    }
    logits.push(Float32Array.from(rows));
  }
  await generator.release();
  await model.close();
  return logits;
}

async function peftLogits(cases: { base: string; adapter: string }[]): Promise<number[][][]> {
  const running = promisify(execFile)(PYTHON, [join(ROOT, "scripts/peft-logits.py")], {
    maxBuffer: 2 ** 28,
    timeout: PYTHON_TIMEOUT_MS,
  });
  running.child.stdin?.end(JSON.stringify(cases.map((each) => ({ ...each, sequences: SEQUENCES }))));
  return JSON.parse((await running).stdout) as number[][][];
}

describe.skipIf(!existsSync(PYTHON))("an adapter of ours in PEFT", () => {
  it(
    "gives the same logits",
    async () => {
      const saved = [];
      for (const { model, lora } of CASES) {
        const base = join(GOLDEN_FOLDER, model);
        saved.push({ base, adapter: await saveRandomAdapter(base, lora) });
      }
      // One start of Python for all.
      const expected = await peftLogits(saved);
      for (const [i, { base, adapter }] of saved.entries()) {
        const actual = await ourLogits(base, adapter);
        for (const [j, logits] of actual.entries()) {
          expect(relativeError(logits, expected[i]?.[j] ?? [])).toBeLessThan(TOLERANCE);
        }
      }
    },
    PYTHON_TIMEOUT_MS,
  );
});

it("an adapter names its base model as PEFT looks for it", async () => {
  const [{ model, lora }] = CASES as [(typeof CASES)[0]];
  const nameOf = async (baseId: string): Promise<unknown> => {
    const adapter = await saveRandomAdapter(join(GOLDEN_FOLDER, model), lora, baseId);
    const config = await readFile(join(adapter, "adapter_config.json"), "utf8");
    return (JSON.parse(config) as { base_model_name_or_path: unknown }).base_model_name_or_path;
  };
  expect(await nameOf("smollm2-135m-instruct")).toBe("HuggingFaceTB/SmolLM2-135M-Instruct");
  expect(await nameOf("my-own-model")).toBe("my-own-model");
});
