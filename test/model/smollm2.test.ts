// The real base model, where a quickstart or a pull has already fetched it; nothing is downloaded here.
import { afterAll, describe, expect, test } from "vitest";
import { openBaseModel } from "../../src/model/base-model.ts";
import { tensorShapes } from "../../src/model/tensor-shapes.ts";
import { smollm2 } from "../smollm2.ts";

describe.skipIf(smollm2 === null)("SmolLM2-135M-Instruct from the cache", async () => {
  const model = smollm2 && (await openBaseModel(smollm2.path));
  afterAll(() => model?.close());

  test("config and weights", () => {
    expect(model?.config).toMatchObject({
      family: "llama",
      hiddenSize: 576,
      layerCount: 30,
      queryHeads: 9,
      keyValueHeads: 3,
      headWidth: 64,
      rmsNormEpsilon: 1e-5,
      ropeTheta: 100_000,
      tiedEmbeddings: true,
      eosTokenIds: [2],
    });
    if (model === null) throw new Error("internal: skipped");
    let values = 0;
    for (const name of tensorShapes(model.config).keys()) {
      const tensor = model.tensor(name);
      // A damaged scale spoils its whole block of 32: every 16th value shows it.
      for (let i = 0; i < tensor.length; i += 16)
        if (!(Math.abs(tensor[i] ?? NaN) < 100)) throw new Error(`${name}[${i}] is ${tensor[i]}`);
      values += tensor.length;
    }
    expect(values).toBe(134_515_008);
  });
});
