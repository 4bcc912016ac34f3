// The rotary caches: the plain formula, both scalings, and how Llama 3's passes from one band to the next.
import { describe, expect, it } from "vitest";
import { smallConfig } from "../../test/engine/graph-families.ts";
import type { ModelConfig } from "./model-config.ts";
import { rotaryCaches, rotaryFrequencies } from "./rotary.ts";

const plain: ModelConfig = { ...smallConfig("llama"), headWidth: 8, ropeTheta: 10_000 };

describe("rotaryFrequencies", () => {
  it("fall from 1 by powers of theta", () => {
    expect([...rotaryFrequencies(plain)].map((frequency) => Number(frequency.toFixed(12)))).toEqual([
      1, 0.1, 0.01, 0.001,
    ]);
  });

  it("are divided by the factor of linear scaling", () => {
    const scaled = rotaryFrequencies({ ...plain, ropeScaling: { kind: "linear", factor: 4 } });
    expect([...scaled]).toEqual([...rotaryFrequencies(plain)].map((frequency) => frequency / 4));
  });

  it("keep high, divide low and blend middle frequencies as Llama 3", () => {
    const scaling = { kind: "llama3", factor: 8, lowFrequencyFactor: 1, highFrequencyFactor: 4 } as const;
    const config = { ...plain, headWidth: 64, ropeTheta: 500_000 };
    const before = rotaryFrequencies(config);
    const after = rotaryFrequencies({ ...config, ropeScaling: { ...scaling, originalMaxPositions: 8192 } });
    const bands = { kept: 0, blended: 0, divided: 0 };
    for (const [i, frequency] of before.entries()) {
      const wavelength = (2 * Math.PI) / frequency;
      const ratio = (after[i] as number) / frequency;
      if (wavelength < 8192 / 4) {
        bands.kept += 1;
        expect(ratio).toBe(1);
      } else if (wavelength > 8192) {
        bands.divided += 1;
        expect(ratio).toBeCloseTo(1 / 8, 12);
      } else {
        bands.blended += 1;
        // From 1/8 at a wavelength of 8192 to 1 at 2048, linear in positions per wavelength.
        expect(ratio).toBeCloseTo(1 / 8 + ((8192 / wavelength - 1) / 3) * (7 / 8), 12);
      }
    }
    expect(Math.min(...Object.values(bands))).toBeGreaterThan(0);
  });
});

describe("rotaryCaches", () => {
  it("hold cosine and sine of position times frequency", () => {
    const { cos, sin } = rotaryCaches(plain, 6);
    expect(cos.shape).toEqual([6, 4]);
    expect(sin.shape).toEqual([6, 4]);
    for (const [i, frequency] of rotaryFrequencies(plain).entries()) {
      expect(cos.data[i]).toBe(1);
      expect(sin.data[i]).toBe(0);
      expect(cos.data[5 * 4 + i]).toBe(Math.fround(Math.cos(5 * frequency)));
      expect(sin.data[5 * 4 + i]).toBe(Math.fround(Math.sin(5 * frequency)));
    }
  });
});
