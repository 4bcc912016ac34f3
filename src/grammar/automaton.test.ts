// Automata of patterns, against RegExp: the same texts, and never a wall.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { otherTexts, patternAutomaton } from "./automaton.ts";
import type { Automaton } from "./automaton.ts";
import { parsePattern } from "./pattern.ts";

function accepts(automaton: Automaton, text: string): boolean {
  let state = 0;
  for (const character of text) {
    const at = character.codePointAt(0) ?? 0;
    const edge = automaton[state]?.edges.find(([set]) =>
      set.some(([first, last]) => first <= at && at <= last),
    );
    if (edge === undefined) return false;
    state = edge[1];
  }
  return automaton[state]?.isEnd === true;
}

/** Random patterns over few characters, so that random texts often match. */
const { pattern } = fc.letrec<{ pattern: string; term: string }>((tie) => ({
  term: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    fc.constantFrom("a", "b", ".", "[^a]", "[a-cé]", "\\d", "\\W", "\\s", "😀", "[^\\s\\S]?", "\\u00e9", '"'),
    fc.constantFrom("^", "$", "", "\\\\", "[\\u{1f600}-\\u{1f602}]", "\\n"),
    fc
      .tuple(tie("pattern"), fc.constantFrom("", "*", "+", "?", "{2}", "{1,3}", "{0,2}?", "{2,}"))
      .map(([inner, count]) => `(${inner})${count}`),
  ),
  pattern: fc.oneof(
    { depthSize: "small" },
    fc.array(tie("term"), { maxLength: 4 }).map((terms) => terms.join("")),
    fc.tuple(tie("pattern"), tie("pattern")).map(([a, b]) => `${a}|${b}`),
  ),
}));
const text = fc
  .array(fc.constantFrom("a", "b", "c", "1", "é", "😀", " ", "\n", '"', "\\", "\u2028"), { maxLength: 7 })
  .map((characters) => characters.join(""));

describe("of a pattern", () => {
  it("accept what RegExp finds it in, wherever its anchors stand", () => {
    let found = 0;
    fc.assert(
      fc.property(pattern, fc.array(text, { minLength: 8, maxLength: 8 }), (source, texts) => {
        const regExp = new RegExp(source, "u");
        let automaton: Automaton;
        try {
          automaton = patternAutomaton(parsePattern(source));
        } catch (error) {
          expect(String(error)).toMatch(/no text matches|too large/);
          return;
        }
        for (const each of texts) {
          const isFound = regExp.test(each);
          if (isFound) found += 1;
          expect([source, each, accepts(automaton, each)]).toEqual([source, each, isFound]);
        }
      }),
      { numRuns: 1000, seed: 7 },
    );
    expect(found).toBeGreaterThan(500);
  });

  it("lead from everywhere to an end", () => {
    for (const source of ["^(a|b[^\\s\\S])$", "a$b|c", "^.{3}x|y$"]) {
      const automaton = patternAutomaton(parsePattern(source));
      const ends = new Set(automaton.flatMap(({ isEnd }, at) => (isEnd ? [at] : [])));
      for (let i = 0; i < automaton.length; i++) {
        for (const [at, { edges }] of automaton.entries())
          if (edges.some(([, target]) => ends.has(target))) ends.add(at);
      }
      expect([source, ends.size]).toEqual([source, automaton.length]);
    }
  });

  it.each([
    ["(?=a)b", "in which '(?=' is not supported"],
    ["(?<!a)b", "in which '(?<!' is not supported"],
    ["\\bword", "in which '\\b' is not supported"],
    ["(a)\\1", "in which '\\1' is not supported"],
    ["(?<x>a)\\k<x>", "in which '\\k' is not supported"],
    ["^\\p{L}+$", "in which '\\p{L}' is not supported"],
    ["(", "is not a regular expression"],
    ["^[^\\s\\S]$", "is one that no text matches"],
    ["a$b", "is one that no text matches"],
    ["^(a{900}){900}$", "is too large: write it with fewer repetitions and alternatives"],
    ["((){1000}){1000}", "is too large: write it with fewer repetitions and alternatives"],
    ["a.{40}$", "is too large: write it with fewer repetitions and alternatives"],
  ])("%s is refused", (source, message) => {
    expect(() => patternAutomaton(parsePattern(source))).toThrow(message);
  });
});

it("of all texts but some", () => {
  const others = otherTexts(["", "a", "abc", "é"]);
  for (const [each, isOther] of [
    ["", false],
    ["a", false],
    ["ab", true],
    ["abc", false],
    ["abcd", true],
    ["é", false],
    ["b", true],
  ] as const)
    expect([each, accepts(others, each)]).toEqual([each, isOther]);
});
