// Texts are counted and cut by characters, not by the units that JavaScript stores them in.
import fc from "fast-check";
import { expect, test } from "vitest";
import { characterCount, firstCharacters } from "./characters.ts";

test("a character is one, however many units it takes", () => {
  expect(characterCount("")).toBe(0);
  expect(characterCount("añ😀")).toBe(3);
  expect(characterCount("\ud800a\udc00")).toBe(3);
});

test("a cut keeps characters whole", () => {
  expect(firstCharacters("a😀b", 2)).toBe("a😀");
  expect(firstCharacters("a😀b", 3)).toBe("a😀b");
  expect(firstCharacters("a😀b", 9)).toBe("a😀b");
  expect(firstCharacters("a😀b", 0)).toBe("");
});

test("both are those of the text's iterator", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), fc.nat({ max: 12 }), (text, most) => {
      const characters = Array.from(text);
      expect(characterCount(text)).toBe(characters.length);
      expect(firstCharacters(text, most)).toBe(characters.slice(0, most).join(""));
    }),
  );
});
