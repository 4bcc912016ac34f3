// Preference lines: what is read, and what a person is told of each fault, in a file of them too.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { countExamples, PREFERENCE_FORMAT, readExamples } from "./dataset.ts";
import { readPreferenceExample } from "./preference-example.ts";

const user = { role: "user", content: "Hi" };
const says = (content: string, rest: object = {}) => ({ role: "assistant", content, ...rest });
const pair = (changes: object = {}) => ({
  input: { messages: [user] },
  preferred_output: [says("Hello.")],
  non_preferred_output: [says("What?")],
  ...changes,
});

describe("readPreferenceExample", () => {
  it("reads a prompt and two answers, of which the prompt teaches nothing", () => {
    const tools = [{ type: "function", function: { name: "clock" } }];
    const messages = [user, says("Yes?"), user];
    const { example, faults } = readPreferenceExample(
      pair({ input: { messages, tools, parallel_tool_calls: false } }),
    );
    expect(faults).toEqual([]);
    expect(example).toEqual({
      prompt: [user, says("Yes?", { weight: 0 }), user],
      tools,
      parallelToolCalls: false,
      preferred: says("Hello."),
      rejected: says("What?"),
    });
  });

  it("takes the names of OpenAI's specification, an empty list of tools, and tool calls as answers", () => {
    const call = { id: "c1", type: "function", function: { name: "clock", arguments: "{}" } };
    const { example, faults } = readPreferenceExample({
      input: { messages: [user, says("Yes?", { weight: 0 }), user], tools: [] },
      preferred_completion: [{ role: "assistant", tool_calls: [call] }],
      non_preferred_completion: [says("Noon.", { weight: 1 })],
    });
    expect(faults).toEqual([]);
    expect(example?.preferred).toEqual({ role: "assistant", content: null, tool_calls: [call] });
    expect(example).not.toHaveProperty("tools");
  });

  it.each<[string, unknown, object[]]>([
    ["a list", [], [{ text: 'is an empty list, expected an object with "input" and two outputs' }]],
    ["no input", pair({ input: undefined }), [{ kind: "shape", text: 'is missing key "input"' }]],
    [
      "no messages",
      pair({ input: {} }),
      [{ kind: "shape", part: "input", text: 'is missing key "messages"' }],
    ],
    [
      "an empty prompt",
      pair({ input: { messages: [] } }),
      [{ text: "has input.messages an empty list, expected at least one message" }],
    ],
    [
      "extra members",
      pair({ score: 1, input: { messages: [user], model: "x" } }),
      [{ text: 'contains an extra "score"' }, { text: 'contains an extra "model" in input' }],
    ],
    [
      "one output",
      pair({ non_preferred_output: undefined }),
      [{ kind: "shape", text: 'is missing key "non_preferred_output"' }],
    ],
    [
      "an output under both names",
      pair({ preferred_completion: [says("Hello.")] }),
      [{ text: "has both preferred_output and preferred_completion; keep preferred_output" }],
    ],
    [
      "two messages as an output",
      pair({ preferred_output: [says("a"), says("b")] }),
      [
        {
          text: expect.stringMatching(
            /^has preferred_output a list of 2, expected a list of one assistant/,
          ) as unknown,
        },
      ],
    ],
    [
      "an output that is not the assistant's",
      pair({ preferred_output: [user] }),
      [{ part: "preferred_output", text: 'has role "user", expected "assistant"' }],
    ],
    [
      "an output without content",
      pair({ non_preferred_output: [{ role: "assistant" }] }),
      [{ kind: "shape", message: null, part: "non_preferred_output", text: 'is missing key "content"' }],
    ],
    [
      "weights that contradict the method",
      pair({ input: { messages: [user, says("a", { weight: 1 }), user] } }),
      [{ message: 2, text: "has weight 1 in input; only the outputs are trained on" }],
    ],
    [
      "an output with weight 0",
      pair({ preferred_output: [says("a", { weight: 0 })] }),
      [{ part: "preferred_output", text: "has weight 0, but the outputs are what is trained on" }],
    ],
    [
      "a fault in the prompt, once",
      pair({ input: { messages: [{ role: "bot", content: "Hi" }] } }),
      [{ message: 1, text: expect.stringMatching(/^has role "bot", expected one of/) as unknown }],
    ],
    [
      "equal outputs",
      pair({ non_preferred_output: [says("Hello.")] }),
      [{ text: "has the same text in both outputs, so there is nothing to prefer" }],
    ],
  ])("names what is wrong with %s", (_, value, expected) => {
    const { example, faults } = readPreferenceExample(value);
    expect(example).toBeNull();
    expect(faults).toEqual(expected.map((fault) => expect.objectContaining(fault) as unknown));
  });
});

describe("a file of pairs", () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "preference-"));
  });
  afterAll(() => rm(folder, { recursive: true }));

  const save = async (rows: readonly unknown[]): Promise<string> => {
    const path = join(folder, "pairs.jsonl");
    await writeFile(path, rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
    return path;
  };
  const options = { param: "training_file", method: "dpo" } as const;
  const ten = Array.from({ length: 10 }, () => pair());

  it("is read and counted", async () => {
    const path = await save(ten);
    expect(await countExamples(path, options)).toBe(10);
    const { examples } = await readExamples(path, PREFERENCE_FORMAT, options);
    expect(examples.map(({ line, preferred }) => [line, preferred.content])).toEqual(
      ten.map((_, i) => [i + 1, "Hello."]),
    );
  });

  it("names the place of a fault in an output", async () => {
    const path = await save([...ten, pair({ preferred_output: [user] })]);
    await expect(countExamples(path, options)).rejects.toMatchObject({
      code: "invalid_training_file",
      param: "training_file",
      message:
        'The job failed due to an invalid training file. Invalid file format. Example 11, preferred_output has role "user", expected "assistant".',
    });
  });

  it.each([
    [
      "chats",
      { messages: [user, says("a")] },
      "The input file is in the fine-tune-chat format, but the specified fine-tuning job is using 'dpo' as the training method. Give it preference pairs:",
    ],
    [
      "prompts and completions",
      { prompt: "a", completion: "b" },
      "The input file has prompt/completion pairs, which only legacy completion models take; expected preference pairs.",
    ],
  ])("of %s instead gets one answer", async (_, row, message) => {
    await expect(countExamples(await save(ten.map(() => row)), options)).rejects.toMatchObject({
      code: "invalid_training_file",
      message: expect.stringContaining(message) as unknown,
    });
  });

  it("with one chat among the pairs says what that line lacks", async () => {
    const path = await save([...ten, { messages: [user, says("a")] }]);
    await expect(countExamples(path, options)).rejects.toMatchObject({
      code: "invalid_file_format",
      message: expect.stringMatching(
        /Example 11 contains an extra "messages"; example 11 is missing key "input"/,
      ) as unknown,
    });
  });
});
