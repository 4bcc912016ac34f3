// Where each matrix lies, what it is called, and how it starts.
import { expect, it } from "vitest";
import { smallConfig } from "../../test/engine/graph-families.ts";
import { adapterShapes } from "../model/adapter.ts";
import { LORA_TARGETS } from "../model/lora-targets.ts";
import { createRandom } from "../random.ts";
import { LoraParameters } from "./lora-parameters.ts";
import type { LoraPlan } from "./lora-parameters.ts";

const CONFIG = { ...smallConfig("llama"), layerCount: 3 };
const PLAN: LoraPlan = { rank: 2, alpha: 4, dropout: 0, targetModules: ["q_proj", "down_proj"] };

it("lays out every pair of every layer without gaps", () => {
  const { slots, data } = new LoraParameters(CONFIG, PLAN);
  expect(
    slots.map(({ layer, target, matrix, shape }) => [layer, target, matrix, ...shape]).slice(0, 5),
  ).toEqual([
    [0, "q_proj", "lora_A", 2, 6],
    [0, "q_proj", "lora_B", 16, 2],
    [0, "down_proj", "lora_A", 2, 5],
    [0, "down_proj", "lora_B", 6, 2],
    [1, "q_proj", "lora_A", 2, 6],
  ]);
  let offset = 0;
  for (const slot of slots) {
    expect(slot).toMatchObject({ offset, length: slot.shape[0] * slot.shape[1] });
    offset += slot.length;
  }
  expect(data).toHaveLength(offset);
  expect(offset).toBe(3 * (2 * 6 + 16 * 2 + 2 * 5 + 6 * 2));
});

it("has the names and shapes of PEFT's adapter file, in its order", () => {
  const plan = { ...PLAN, targetModules: LORA_TARGETS };
  const { slots } = new LoraParameters(CONFIG, plan);
  const expected = adapterShapes(CONFIG, { rank: plan.rank, targetModules: [...plan.targetModules] });
  expect(slots.map(({ peftName, shape }) => [peftName, [...shape]])).toEqual([...expected]);
  expect(slots[1]?.peftName).toBe("base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight");
});

it("shows each layer views of the one array under the names of its graph", () => {
  const parameters = new LoraParameters(CONFIG, PLAN);
  expect(parameters.layers.map((layer) => Object.keys(layer))).toEqual(
    Array(3).fill(["q_proj.lora_A", "q_proj.lora_B", "down_proj.lora_A", "down_proj.lora_B"]),
  );
  for (const [i, { layer, target, matrix, shape, offset }] of parameters.slots.entries()) {
    parameters.data[offset] = i + 1;
    expect(parameters.layers[layer]?.[`${target}.${matrix}`]).toMatchObject({ shape });
    expect(parameters.layers[layer]?.[`${target}.${matrix}`]?.data[0]).toBe(i + 1);
  }
});

it("starts with A uniform within its bound and B zero, the same for the same seed", () => {
  const [one, same, other] = [7, 7, 8].map((seed) => {
    const parameters = new LoraParameters(CONFIG, { ...PLAN, rank: 64 });
    parameters.data.fill(9);
    parameters.initialize(seed);
    return parameters;
  }) as [LoraParameters, LoraParameters, LoraParameters];
  expect(same.data).toEqual(one.data);
  expect(other.data).not.toEqual(one.data);
  const starts = new Set<number>();
  for (const { matrix, shape, offset, length } of one.slots) {
    const values = one.data.subarray(offset, offset + length);
    if (matrix === "lora_B") {
      expect(values.every((value) => value === 0)).toBe(true);
      continue;
    }
    const bound = 1 / Math.sqrt(shape[1]);
    const mean = values.reduce((sum, value) => sum + value, 0) / length;
    const square = values.reduce((sum, value) => sum + value * value, 0) / length;
    expect(Math.max(...values.map(Math.abs))).toBeLessThanOrEqual(Math.fround(bound));
    // A uniform number in ±b has mean 0 and mean square b²/3; 320 of them are within these bounds with room to spare.
    expect(Math.abs(mean)).toBeLessThan(0.15 * bound);
    expect(Math.abs(square / (bound * bound) - 1 / 3)).toBeLessThan(0.08);
    starts.add(values[0] as number);
  }
  // Every matrix has numbers of its own.
  expect(starts.size).toBe(6);
});

it("starts from numbers of its own, which neither the order of examples nor a lone seed draws", () => {
  const parameters = new LoraParameters(CONFIG, PLAN);
  parameters.initialize(7);
  for (const { matrix, shape, offset } of parameters.slots) {
    if (matrix === "lora_B") continue;
    const start = (parameters.data[offset] as number) * Math.sqrt(shape[1]);
    const others = [createRandom(7), ...Array.from({ length: 20 }, (_, epoch) => createRandom(7, epoch))];
    for (const random of others) expect(Math.abs(random.next() * 2 - 1 - start)).toBeGreaterThan(1e-6);
  }
});

it("holds nothing without targets", () => {
  const parameters = new LoraParameters(CONFIG, { ...PLAN, targetModules: [] });
  expect(parameters.data).toHaveLength(0);
  expect(parameters.layers).toEqual([{}, {}, {}]);
});
