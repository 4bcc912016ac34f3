// Masks against asking the matcher about each token: the walk through the tree, and states that share a mask.
import { expect, it } from "vitest";
import { DEAD, Matcher } from "../grammar/matcher.ts";
import { createRandom } from "../random.ts";
import { answerProgram } from "./answer-form.ts";
import { createTokenTrie } from "./token-trie.ts";

const TOKENS = [
  "a",
  "aa",
  "aaaa",
  '"',
  '","',
  '"]',
  "",
  "[",
  "]",
  ",",
  "aaaaaaaa",
  "a",
  '{"t":[',
  '"aa',
  "}",
  "é",
  '"]}',
  '","aa',
];
const bytes = TOKENS.map((token) => new TextEncoder().encode(token));
const trie = createTokenTrie(bytes, TOKENS.length + 40);

/** Ids by the mask of the state's like, and by stepping through every token from the state itself. */
function allowed(matcher: Matcher, state: number): { byMask: number[]; bySteps: number[] } {
  const mask = trie.allowed(matcher, matcher.like(state));
  const all = Array.from({ length: 32 * mask.length }, (_, id) => id);
  return {
    byMask: all.filter((id) => ((mask[id >> 5] ?? 0) & (1 << (id & 31))) !== 0),
    bySteps: [...bytes.entries()]
      .filter(
        ([, token]) => token.length > 0 && token.reduce((at, byte) => matcher.step(at, byte), state) !== DEAD,
      )
      .map(([id]) => id),
  };
}

it.each([
  { type: "string", maxLength: 30 },
  { type: "string", minLength: 12, maxLength: 40 },
  { type: "string", minLength: 25 },
  {
    anyOf: [
      { type: "string", maxLength: 14 },
      { type: "string", minLength: 17, maxLength: 19 },
    ],
  },
  { type: "string", pattern: "^(aaa)*$" },
])("masks of texts %j near and far from their bounds allow what can be gone on with", (items) => {
  const schema = {
    type: "object",
    properties: { t: { type: "array", items, minItems: 2, maxItems: 25 } },
    required: ["t"],
    additionalProperties: false,
  };
  const random = createRandom(1);
  let count = 0;
  for (let round = 0; round < 30; round++) {
    const matcher = new Matcher(answerProgram({ type: "json_schema", schema }), trie.longestBytes);
    let state = matcher.start;
    for (let i = 0; i < 60; i++) {
      const { byMask, bySteps } = allowed(matcher, state);
      expect(byMask).toEqual(bySteps);
      const id = bySteps[random.below(bySteps.length)];
      if (id === undefined) break;
      count += 1;
      for (const byte of bytes[id] ?? []) state = matcher.step(state, byte);
    }
  }
  expect(count).toBeGreaterThan(300);
});
