// Rows that two models are compared on: asked as they would be served, and refused by line where they have no right answer.
import { expect, test } from "vitest";
import { heldOutRows } from "./rebase.ts";

const tools = [{ type: "function", function: { name: "look", parameters: { type: "object" } } }];
const question = { role: "user", content: "Where is my parcel?" };
const answer = { role: "assistant", content: "On its way.", weight: 1 };

test("a row is asked with its tools and without its answer", () => {
  const row = { messages: [question, answer], tools, parallel_tool_calls: false };
  const [found, ...others] = heldOutRows(`\n${JSON.stringify(row)}\n\n`, "rows.jsonl");
  expect(others).toEqual([]);
  expect(found).toMatchObject({ line: 2, reference: "On its way." });
  expect(found?.request).toMatchObject({
    messages: [question],
    tools,
    parallel_tool_calls: false,
    temperature: 0,
  });
});

test.each([
  ["no JSON", "{", "rows.jsonl, line 1: expected a chat"],
  ["no answer", JSON.stringify({ messages: [question] }), "it ends otherwise"],
  [
    "an answer that calls",
    JSON.stringify({ messages: [question, { role: "assistant", content: null }] }),
    "it ends",
  ],
  ["deprecated functions", JSON.stringify({ messages: [question, answer], functions: [] }), "functions"],
])("%s is refused by its line", (_name, line, message) => {
  expect(() => heldOutRows(line, "rows.jsonl")).toThrow(message);
});
