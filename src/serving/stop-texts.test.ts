import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createStopTexts } from "./stop-texts.ts";

/** Feeds the pieces until a stop text is met. */
function run(stops: readonly string[], pieces: readonly string[]): { text: string; stopped: boolean } {
  const filter = createStopTexts(stops);
  let sent = "";
  for (const piece of pieces) {
    const { text, stopped } = filter.push(piece);
    sent += text;
    if (stopped) return { text: sent, stopped };
  }
  return { text: sent + filter.flush(), stopped: false };
}

describe("createStopTexts", () => {
  it("ends before a stop text that is spread over pieces", () => {
    expect(run(["END"], ["one E", "N", "D two"])).toEqual({ text: "one ", stopped: true });
  });

  it("gives back what only looked like a beginning", () => {
    expect(run(["END"], ["an E", "Nd"])).toEqual({ text: "an ENd", stopped: false });
  });

  it("ends at the earliest of several stop texts", () => {
    expect(run(["yz", "bc"], ["abcxyz"])).toEqual({ text: "a", stopped: true });
  });

  it("sends text at once where no stop text can begin", () => {
    expect(createStopTexts(["\n"]).push("hello")).toEqual({ text: "hello", stopped: false });
  });

  it("gives the same text however it is cut into pieces", () => {
    const text = fc.string({ unit: fc.constantFrom("a", "b"), maxLength: 30 });
    const stops = fc.array(fc.string({ unit: fc.constantFrom("a", "b"), minLength: 1, maxLength: 4 }), {
      maxLength: 4,
    });
    fc.assert(
      fc.property(text, stops, fc.array(fc.nat(30)), (whole, stopTexts, cuts) => {
        const places = [...cuts.filter((cut) => cut < whole.length), whole.length].sort((a, b) => a - b);
        const pieces = places.map((place, i) => whole.slice(places[i - 1] ?? 0, place));
        const found = stopTexts.map((stop) => whole.indexOf(stop)).filter((at) => at >= 0);
        const { text: sent, stopped } = run(stopTexts, pieces);
        expect(stopped).toBe(found.length > 0);
        // In pieces, a stop text may be complete before an earlier one is: then it ends the answer first.
        if (!stopped) expect(sent).toBe(whole);
        else expect(stopTexts.some((stop) => whole.startsWith(sent + stop))).toBe(true);
      }),
      { seed: 1 },
    );
  });
});
