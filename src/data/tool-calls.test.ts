// Reading calls out of an answer: wherever its text is split, and wherever it ends.
import { expect, test } from "vitest";
import { createToolCallReader, PLAIN_SHAPE } from "./tool-calls.ts";

const { begin, middle, end } = PLAIN_SHAPE;
const ARGUMENTS = '{"city": "a } \\" {"}';
const CALL = `${begin}weather${middle}${ARGUMENTS}${end}`;

/** What is read from the pieces, and then at the end. */
function read(pieces: readonly string[]) {
  const reader = createToolCallReader(PLAIN_SHAPE, new Set(["weather"]));
  const parts = [...pieces.map((piece) => reader.push(piece)), reader.flush()];
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
    if (length < known) expect(found).toEqual({ text: cut, calls: [] });
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
