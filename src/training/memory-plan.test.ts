import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { openBaseModel } from "../model/base-model.ts";
import { LORA_TARGETS } from "../model/lora-targets.ts";
import type { ModelConfig } from "../model/model-config.ts";
import {
  baseParameterCount,
  describePlan,
  fittingPlan,
  isFullSpeed,
  PASS_PLANS,
  takePlan,
  trainingBytes,
} from "./memory-plan.ts";
import type { PassPlan } from "./memory-plan.ts";

const tiny = await openBaseModel(fileURLToPath(new URL("../../test/goldens/tiny-llama", import.meta.url)));
/** The shape of SmolLM2-135M. */
const config: ModelConfig = {
  ...tiny.config,
  ...{ vocabSize: 49_152, hiddenSize: 576, layerCount: 30, queryHeads: 9, keyValueHeads: 3, headWidth: 64 },
  ...{ mlpWidth: 1536, tiedEmbeddings: true },
};
const size = {
  config,
  lora: { rank: 16, alpha: 32, dropout: 0, targetModules: LORA_TARGETS },
  longest: 1024,
  sharedTokens: 0,
  batchSize: 4,
};

const LEAST = PASS_PLANS[3] as PassPlan;

describe("the estimate", () => {
  it("knows the model's size", () => {
    expect(baseParameterCount(config)).toBe(134_515_008);
  });

  it("lies near what was measured (docs/log.md)", () => {
    expect(trainingBytes(size, PASS_PLANS[0]) / 1e9).toBeCloseTo(2.8, 0);
    expect(trainingBytes(size, LEAST) / 1e9).toBeLessThan(1.3);
  });

  it("falls from plan to plan", () => {
    for (const longest of [50, 1024, 2048]) {
      const bytes = PASS_PLANS.map((plan) => trainingBytes({ ...size, longest }, plan));
      expect(bytes).toEqual([...bytes].sort((a, b) => b - a));
      expect(bytes.at(-1)).toBeLessThan(bytes[0] as number);
    }
  });
});

describe("the largest pass", () => {
  const bytes = (more: Partial<typeof size>) => trainingBytes({ ...size, ...more }, PASS_PLANS[0]);

  it("is a row, a batch, or as many rows as a pass may have", () => {
    expect(bytes({ longest: 50, batchSize: 4 })).toBeLessThan(bytes({ longest: 50, batchSize: 8 }));
    expect(bytes({ longest: 50, batchSize: 8 })).toBe(bytes({ longest: 400, batchSize: 1 }));
    expect(bytes({ longest: 50, batchSize: 100 })).toBe(bytes({ longest: 400, batchSize: 1 }));
  });

  it("has more tokens where rows share a beginning", () => {
    const rows = { longest: 500, batchSize: 8 };
    expect(bytes({ ...rows, sharedTokens: 450 })).toBe(bytes({ longest: 1100, batchSize: 1 }));
    expect(bytes({ ...rows, sharedTokens: 20 })).toBe(bytes({ ...rows, longest: 500, batchSize: 1 }));
  });
});

describe("the choice", () => {
  // Long rows hardly care for small passes, short ones not for what long rows do.
  it.each([
    [1024, 0],
    [1024, 1],
    [1024, 2],
    [100, 0],
    [100, 2],
    [100, 3],
  ])("is the fastest plan that fits: of rows of %i tokens, plan %i", (longest, i) => {
    const plan = PASS_PLANS[i] as PassPlan;
    const needed = trainingBytes({ ...size, longest }, plan);
    const found = fittingPlan({ ...size, longest }, needed);
    expect(found).toMatchObject({ ...plan, neededBytes: needed, availableBytes: needed });
    expect(found?.fullBytes).toBe(trainingBytes({ ...size, longest }, PASS_PLANS[0]));
  });

  it("is none where none fits", () => {
    expect(fittingPlan(size, trainingBytes(size, LEAST) - 1)).toBeNull();
    expect(PASS_PLANS.map(isFullSpeed)).toEqual([true, false, false, false]);
    expect(new Set(PASS_PLANS.slice(1).map(describePlan)).size).toBe(3);
  });
});

describe("a job's plan", () => {
  let folder: string;
  beforeEach(async () => (folder = await mkdtemp(join(tmpdir(), "tunesmith-plan-"))));
  afterEach(() => rm(folder, { recursive: true }));

  it("is chosen once: a later trainer keeps it, however much memory there is then", async () => {
    const path = join(folder, "plan.json");
    const measure = () => Promise.resolve(size);
    const first = await takePlan(path, size, measure, 1.3e9);
    expect(isFullSpeed(first)).toBe(false);
    expect(JSON.parse(await readFile(path, "utf8"))).toEqual(first);
    expect(await takePlan(path, size, measure, 1)).toEqual(first);
    await writeFile(path, "{");
    await expect(takePlan(path, size, measure, 1.3e9)).rejects.toThrow(
      /expected .* as it was written, found no JSON .* create the job again\.$/,
    );
  });

  it("asks what the run is like only where the most it can be does not fit at full speed, and is the same", async () => {
    const most = { ...size, longest: 2048, sharedTokens: 2048 };
    const bytes = trainingBytes(most, PASS_PLANS[0]);
    const planOf = async (available: number) => {
      const path = join(folder, `plan-${available}.json`);
      let asked = 0;
      const plan = await takePlan(path, most, () => Promise.resolve((asked++, size)), available);
      const { passTokens, wholeStepTokens } = fittingPlan(size, available) as PassPlan;
      expect(plan).toMatchObject({ passTokens, wholeStepTokens });
      return { asked, neededBytes: plan.neededBytes };
    };
    expect(await planOf(bytes)).toEqual({ asked: 0, neededBytes: bytes });
    const neededBytes = trainingBytes(size, PASS_PLANS[0]);
    expect(neededBytes).toBeLessThan(bytes);
    for (const available of [bytes - 1, neededBytes]) {
      expect(await planOf(available)).toEqual({ asked: 1, neededBytes });
    }
    expect((await planOf(neededBytes - 1)).asked).toBe(1);
  });

  it("is refused with the figures where nothing fits, and leaves nothing behind", async () => {
    const path = join(folder, "plan.json");
    await expect(takePlan(path, size, () => Promise.resolve(size), 0.5e9)).rejects.toThrow(
      expect.objectContaining({
        code: "insufficient_memory",
        message: expect.stringMatching(
          /^Training needs about 1\.\d GB of memory even in small passes and layer by layer, and 0\.5 GB are available\..*\(1024 tokens\)/,
        ) as string,
      }),
    );
    await expect(readFile(path)).rejects.toThrow("ENOENT");
  });
});
