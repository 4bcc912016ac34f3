import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { mendFile, mendLine } from "./mend.ts";

const folder = mkdtempSync(join(tmpdir(), "tunesmith-mend-"));
afterAll(() => rmSync(folder, { recursive: true }));

const GOOD = '{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}';
const mended = (line: string) => {
  const { text, changes, isGood } = mendLine(Buffer.from(line));
  return { text: text === null ? null : (JSON.parse(text) as unknown), changes, isGood };
};
const EXPECTED = JSON.parse(GOOD) as unknown;

describe("mendLine", () => {
  it("leaves a good line alone, byte by byte", () => {
    expect(mendLine(Buffer.from(` ${GOOD} `))).toEqual({ text: null, changes: [], isGood: true });
  });

  it.each([
    [`${GOOD},`, ["removed the comma behind the object"]],
    ['{"prompt":"a","completion":"b"}', ["wrote prompt and completion as a user and an assistant message"]],
    [
      '{"conversations":[{"from":"human","value":"a"},{"from":"gpt","value":"b"}]}',
      [
        "wrote conversations (from, value) as messages (role, content)",
        'message 1: wrote role "human" as "user"',
        'message 2: wrote role "gpt" as "assistant"',
      ],
    ],
    [GOOD.replace("{", '{"id":7,'), ['removed "id"']],
    [GOOD.replace('"user"', '"User "'), ['message 1: wrote role "User " as "user"']],
    [GOOD.replace('"a"}', '"a","weight":0}'), ['message 1: removed "weight"']],
  ])("%s", (line, changes) => {
    expect(mended(line)).toEqual({ text: EXPECTED, changes, isGood: true });
  });

  it("writes weights as numbers and tool call arguments as texts", () => {
    const line = JSON.stringify({
      messages: [
        { role: "user", content: 1 },
        { role: "assistant", content: "x", weight: "0" },
        {
          role: "assistant",
          tool_calls: [{ id: "c", function: { name: "f", arguments: { a: 1 } } }],
        },
      ],
    });
    expect(mended(line)).toMatchObject({
      isGood: true,
      text: {
        messages: [
          { content: "1" },
          { weight: 0 },
          { tool_calls: [{ type: "function", function: { arguments: '{"a":1}' } }] },
        ],
      },
    });
  });

  it.each(["constructor", "toString", "__proto__"])("takes %s for no role", (role) => {
    const line = JSON.stringify({ messages: [{ role, content: "a" }] });
    expect(mendLine(Buffer.from(line))).toEqual({ text: null, changes: [], isGood: false });
  });

  it.each(["not JSON", '{"messages":[]}', "7", '{"messages":[{"role":"assistant"}]}'])(
    "leaves to a person: %s",
    (line) => {
      expect(mendLine(Buffer.from(line))).toEqual({ text: null, changes: [], isGood: false });
    },
  );
});

describe("mendFile", () => {
  it("keeps every line but blank ones, and says what it did", async () => {
    const [source, target] = [join(folder, "in.jsonl"), join(folder, "out.jsonl")];
    writeFileSync(source, `\n${GOOD}\n\n${GOOD},\nbroken\n`);
    expect(await mendFile(source, target)).toEqual({
      lines: 3,
      blankLines: 2,
      changedLines: 1,
      changes: [{ line: 4, changes: ["removed the comma behind the object"] }],
      unmendedLines: 1,
    });
    expect(readFileSync(target, "utf8")).toBe(`${GOOD}\n${GOOD}\nbroken\n`);
  });

  it("makes lines of one JSON list", async () => {
    const [source, target] = [join(folder, "list.json"), join(folder, "lines.jsonl")];
    writeFileSync(source, `[\n  ${GOOD},\n  ${GOOD}\n]\n`);
    expect(await mendFile(source, target)).toMatchObject({ lines: 2, changedLines: 2, unmendedLines: 0 });
    expect(readFileSync(target, "utf8")).toBe(`${GOOD}\n${GOOD}\n`);
  });
});
