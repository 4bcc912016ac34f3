// Reading calls out of an answer: wherever its text is split, and wherever it ends.
import { expect, test } from "vitest";
import { createToolCallReader, PLAIN_SHAPE } from "./tool-calls.ts";

const { begin, middle, end } = PLAIN_SHAPE;
const ARGUMENTS = '{"city": "a } \\" {"}';
const CALL = `${begin}weather${middle}${ARGUMENTS}${end}`;

/** What is read from the pieces, and then at the end. */
function read(pieces: readonly string[], { isForced = false, isCutOff = true } = {}) {
  const reader = createToolCallReader(PLAIN_SHAPE, new Set(["weather"]), isForced);
  const parts = [...pieces.map((piece) => reader.push(piece)), reader.flush({ isCutOff })];
  return { text: parts.map(({ text }) => text).join(""), calls: parts.flatMap(({ calls }) => calls) };
}

test("text and calls come apart, however they arrive", () => {
  const answer = `Let me see. ${CALL}`;
  const call = { name: "weather", arguments: ARGUMENTS };
  for (const pieces of [[answer], [...answer]])
    expect(read(pieces)).toEqual({ text: "Let me see. ", calls: [call] });
  expect(read([...CALL, "\n", ...CALL])).toEqual({ text: "", calls: [call, call] });
});

test("an answer that ends within a call has the beginning of its arguments, once its name is known", () => {
  const known = begin.length + "weather".length + middle.length;
  for (let length = 1; length < CALL.length; length++) {
    const cut = CALL.slice(0, length);
    const found = read([...cut]);
    if (length < known) expect(found).toEqual({ text: "", calls: [] });
    else {
      const expected = CALL.slice(known, Math.min(length, known + ARGUMENTS.length));
      expect(found).toEqual({ text: "", calls: [{ name: "weather", arguments: expected }] });
    }
  }
});

test("what only looks like a call is text", () => {
  for (const text of [
    `${begin}other${middle}{}${end}`,
    "<tool_call> is a tag",
    `${begin}weather${middle}{"a"}${end}`,
  ])
    expect(read([text])).toEqual({ text, calls: [] });
});

test("a call that is cut off before its name is known leaves no trace beside calls", () => {
  const call = { name: "weather", arguments: ARGUMENTS };
  for (let length = 1; length < begin.length + "weather".length; length++) {
    const cut = CALL.slice(0, length);
    expect(read([...CALL, "\n", ...cut])).toEqual({ text: "", calls: [call] });
    expect(read([CALL, "\n", cut])).toEqual({ text: "", calls: [call] });
    expect(read([...cut], { isForced: true, isCutOff: false })).toEqual({ text: "", calls: [] });
  }
});

test("what may only be the beginning of a call is text, where there is text or the answer ended by itself", () => {
  expect(read([..."1 <"])).toEqual({ text: "1 <", calls: [] });
  expect(read(["<tool"], { isCutOff: false })).toEqual({ text: "<tool", calls: [] });
});
