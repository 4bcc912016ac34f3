import { expect, it } from "vitest";
import { UnsupportedModel } from "../errors.ts";
import { openBaseModel } from "./base-model.ts";
import { loadDecoderWeights, loadInSteps } from "./decoder-weights.ts";

const model = await openBaseModel(new URL("../../test/goldens/tiny-llama", import.meta.url).pathname);

/** The tiny model with one value of one tensor changed. */
const damaged = (name: string, element: number, value: number) => ({
  config: model.config,
  tensor: (asked: string) => {
    const values = model.tensor(asked);
    if (asked === name) values[element] = value;
    return values;
  },
});

it.each([
  ["model.embed_tokens.weight", NaN],
  ["model.layers.1.mlp.down_proj.weight", Infinity],
  ["model.norm.weight", -Infinity],
])("a weight that is no finite number is refused: %s %d", (name, value) => {
  const load = () => loadDecoderWeights(damaged(name, 7, value), 16);
  expect(load).toThrow(UnsupportedModel);
  expect(load).toThrow(`tensor ${name} must hold finite numbers, has ${value} at element 7`);
});

it("an undamaged model is read", () => {
  expect(loadDecoderWeights(model, 16).layers).toHaveLength(model.config.layerCount);
});

it("reads no two tensors without giving way in between", () => {
  let read = 0;
  const counting = {
    config: model.config,
    tensor: (name: string) => {
      read += 1;
      return model.tensor(name);
    },
  };
  let before = 0;
  for (const steps = loadInSteps(counting, 16); steps.next().done !== true; before = read)
    expect(read - before).toBeLessThanOrEqual(1);
  expect(read).toBeGreaterThan(10);
});
