// The budget of metrics: long texts are given up, and the event loop turns meanwhile.
import { expect, it } from "vitest";
import { Cancelled } from "../errors.ts";
import { fuzzyMatch } from "./fuzzy-match.ts";
import { Pace } from "./pace.ts";

/** Characters in a fixed disorder; two stretches from different places have few in common. */
const letters = (from: number) =>
  Array.from({ length: 30_000 }, (_, i) => String.fromCodePoint(from + ((i * i * 7919) % 611))).join("");
const [first, second] = [letters(0x4e00).repeat(2), letters(0x4e50)];

it("long texts with little in common are given up, and until then the event loop turns", async () => {
  let turns = 0;
  const timer = setInterval(() => turns++, 1);
  const pace = new Pace(new AbortController().signal, 50_000_000);
  await expect(fuzzyMatch(first, second, pace)).rejects.toThrow(
    "The texts are too long and too different to be compared with this metric. Grade shorter texts, or use another 'evaluation_metric'.",
  );
  clearInterval(timer);
  expect(turns).toBeGreaterThan(10);
});

it("an aborted comparison ends", async () => {
  const controller = new AbortController();
  setTimeout(() => controller.abort(), 20);
  await expect(fuzzyMatch(first, second, new Pace(controller.signal))).rejects.toThrow(Cancelled);
});
