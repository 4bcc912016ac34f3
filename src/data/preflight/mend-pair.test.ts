import { describe, expect, it } from "vitest";
import { mendLine } from "./mend.ts";

const PAIR = {
  input: { messages: [{ role: "user", content: "a" }] },
  preferred_output: [{ role: "assistant", content: "b" }],
  non_preferred_output: [{ role: "assistant", content: "c" }],
};
const mended = (value: object) => {
  const { text, changes, isGood } = mendLine(Buffer.from(JSON.stringify(value)), "dpo");
  return { value: text === null ? value : (JSON.parse(text) as unknown), changes, isGood };
};
const WROTE = (from: string) =>
  `wrote ${from}, chosen and rejected as input, preferred_output and non_preferred_output`;

describe("a preference pair", () => {
  it("that is good stays as it is, byte by byte", () => {
    const line = ` ${JSON.stringify(PAIR)} `;
    expect(mendLine(Buffer.from(line), "dpo")).toEqual({ text: null, changes: [], isGood: true });
  });

  it.each<[string, object, string[]]>([
    ["as texts", { prompt: "a", chosen: "b", rejected: "c" }, [WROTE("prompt")]],
    [
      "as conversations",
      {
        prompt: PAIR.input.messages,
        chosen: PAIR.preferred_output,
        rejected: PAIR.non_preferred_output,
      },
      [WROTE("prompt")],
    ],
    [
      "as turns, with a score that nobody reads",
      {
        conversations: [{ from: "human", value: "a" }],
        chosen: { from: "gpt", value: "b" },
        rejected: { value: "c" },
        score: 3,
      },
      [
        WROTE("conversations"),
        'removed "score"',
        'input message 1: wrote role "human" as "user"',
        'preferred_output: wrote role "gpt" as "assistant"',
      ],
    ],
    [
      "with outputs that are no lists",
      { ...PAIR, preferred_output: "b", non_preferred_output: { content: "c" } },
      [
        "preferred_output: wrote the text as an assistant message",
        "non_preferred_output: wrote the message as a list of one",
        'non_preferred_output: added role "assistant"',
      ],
    ],
    [
      "with members that do not belong there",
      { id: 1, ...PAIR, input: { ...PAIR.input, lang: "en" } },
      ['removed "id"', 'input: removed "lang"'],
    ],
  ])("%s", (_, value, changes) => {
    expect(mended(value)).toEqual({ value: PAIR, changes, isGood: true });
  });

  it("loses a weight of 1 in its prompt, and no other", () => {
    const said = (weight: number) => ({ role: "assistant", content: "x", weight });
    const messages = [...PAIR.input.messages, said(1), said(0), ...PAIR.input.messages];
    const { value, changes, isGood } = mended({ ...PAIR, input: { messages } });
    expect(changes).toEqual(["input message 2: removed weight 1, since only the outputs are trained on"]);
    expect(value).toMatchObject({ input: { messages: [{}, { content: "x" }, { weight: 0 }, {}] } });
    expect(isGood).toBe(true);
  });

  it.each([
    { ...PAIR, preferred_output: [] },
    { ...PAIR, preferred_output: PAIR.non_preferred_output },
    { prompt: "a", chosen: "b" },
    { prompt: 1, chosen: "b", rejected: "c" },
    { chosen: "b", rejected: "c" },
    7,
  ])("that needs a person says so: %j", (value) => {
    expect(mended(value as object).isGood).toBe(false);
  });
});
