// Every fault of a training line with its message, and what good lines become.
import { describe, expect, it } from "vitest";
import { foreignFormat, readTrainingExample } from "./training-example.ts";

const user = { role: "user", content: "hi" };
const assistant = { role: "assistant", content: "yes" };
const call = { id: "c1", type: "function", function: { name: "f", arguments: '{"a": 1}' } };
const calling = { role: "assistant", tool_calls: [call] };
const chat = (...messages: unknown[]) => ({ messages });
const withCall = (change: object) => chat(user, { role: "assistant", tool_calls: [{ ...call, ...change }] });

const clause = ({ kind, message, text }: { kind: string; message: number | null; text: string }) =>
  `${kind} ${message ?? "-"}: ${text}`;

describe("faults", () => {
  it.each<[unknown, string]>([
    [null, 'shape -: is null, expected an object with "messages"'],
    [[user], 'shape -: is a list of 1, expected an object with "messages"'],
    ["text", 'shape -: is "text", expected an object with "messages"'],
    [{}, 'shape -: is missing key "messages"'],
    [{ messages: null }, "content -: has messages null, expected a list of at least one message"],
    [{ messages: [] }, "content -: has messages an empty list, expected a list of at least one message"],
    [{ ...chat(user, assistant), id: 3 }, 'shape -: contains an extra "id"'],
    [chat(user), "content -: has no assistant message, so there is nothing to learn from"],
    [
      chat(user, { ...assistant, weight: 0 }),
      "content -: has weight 0 on every assistant message, so there is nothing to learn from",
    ],
    [chat(user, 7, assistant), "content 2: is 7, expected an object with role and content"],
    [
      chat({ content: "x" }, assistant),
      'shape 1: is missing key "role" (one of system, developer, user, assistant, tool)',
    ],
    [
      chat({ role: "bot", content: "x" }, assistant),
      'content 1: has role "bot", expected one of system, developer, user, assistant, tool',
    ],
    [
      chat({ role: 1, content: "x" }, assistant),
      "content 1: has role 1, expected one of system, developer, user, assistant, tool",
    ],
    [chat({ role: "user" }, assistant), 'shape 1: is missing key "content"'],
    [
      chat({ role: "user", content: null }, assistant),
      "content 1: has content null, expected a text or a list of text parts",
    ],
    [
      chat({ role: "user", content: 1e9 }, assistant),
      "content 1: has content 1000000000, expected a text or a list of text parts",
    ],
    [
      chat({ role: "user", content: [] }, assistant),
      "content 1: has content an empty list, expected a text or a list of text parts",
    ],
    [
      chat({ role: "user", content: { a: 1 } }, assistant),
      "content 1: has content an object, expected a text or a list of text parts",
    ],
    [
      chat(user, { role: "assistant", content: null }),
      "content 2: has content null, expected a text or a list of text parts",
    ],
    [chat({ ...user, extra: 1 }, assistant), 'shape 1: contains an extra "extra"'],
    [
      chat({ ...user, weight: 1 }, assistant),
      'shape 1: contains an extra "weight" (weight belongs on assistant messages only)',
    ],
    [chat({ ...user, name: 5 }, assistant), "content 1: has name 5, expected a text"],
    [
      chat({ role: "user", content: [{ type: "image_url", image_url: { url: "data:" } }] }, assistant),
      'content 1: has a part of type "image_url" at content[0]; only text can be trained on',
    ],
    [
      chat({ role: "user", content: [{ type: "text", text: "a" }, { type: "input_audio" }] }, assistant),
      'content 1: has a part of type "input_audio" at content[1]; only text can be trained on',
    ],
    [
      chat({ role: "user", content: [{ type: "text" }] }, assistant),
      'content 1: has an object at content[0], expected {"type": "text", "text": …}',
    ],
    [
      chat({ role: "user", content: [{ type: "text", text: "a", cache: 1 }] }, assistant),
      'shape 1: contains an extra "cache" in content[0]',
    ],
    [
      chat({ role: "user", content: "\ud83d!" }, assistant),
      "content 1: has half a surrogate pair (such as \\ud83d alone) in content, expected whole characters",
    ],
    [chat(user, { ...assistant, weight: 0.5 }), "content 2: has weight 0.5, expected 0 or 1"],
    [chat(user, { ...assistant, weight: "1" }), 'content 2: has weight "1", expected 0 or 1'],
    [chat(user, { ...assistant, weight: true }), "content 2: has weight true, expected 0 or 1"],
    [
      chat(user, { ...assistant, refusal: "no" }),
      "content 2: has a refusal, which is not supported; write the refusal's text as content",
    ],
    [
      chat(user, { ...calling, tool_calls: {} }),
      "content 2: has tool_calls an object, expected a list of calls",
    ],
    [chat(user, { ...calling, tool_calls: [3] }), "content 2: has 3 at tool_calls[0], expected an object"],
    [
      withCall({ id: "" }),
      'content 2: has tool_calls[0].id "", expected a text that a tool message can name',
    ],
    [withCall({ type: "custom" }), 'content 2: has tool_calls[0].type "custom", expected "function"'],
    [withCall({ index: 0 }), 'shape 2: contains an extra "index" in tool_calls[0]'],
    [
      withCall({ function: { arguments: "{}" } }),
      "content 2: has tool_calls[0].function.name missing, expected the name of a function",
    ],
    [
      withCall({ function: { name: "f", arguments: { a: 1 } } }),
      "content 2: has tool_calls[0].function.arguments an object, expected a JSON object written as a text",
    ],
    [
      withCall({ function: { name: "f", arguments: "[1]" } }),
      "content 2: has tool_calls[0].function.arguments with a list of 1, expected a JSON object",
    ],
    [
      withCall({ function: { name: "f", arguments: '{"a":1,"a":2}' } }),
      'content 2: has tool_calls[0].function.arguments, whose text has the key "a" twice',
    ],
    [
      chat(user, { ...calling, function_call: call.function }),
      "content 2: has both tool_calls and function_call (deprecated); keep tool_calls",
    ],
    [
      chat(user, { role: "tool", content: "1", tool_call_id: "c1" }, assistant),
      'content 2: has tool_call_id "c1", expected the id of a tool call in an earlier assistant message',
    ],
    [chat(user, calling, { role: "tool", content: "1" }), 'shape 3: is missing key "tool_call_id"'],
    [
      chat({ role: "function", name: "f", content: "1" }, assistant),
      'content 1: answers the function "f", which the assistant did not call before (role "function" is deprecated; use "tool")',
    ],
    [
      { ...chat(user, assistant), tools: [] },
      "content -: has tools an empty list, expected a list of 1 to 128",
    ],
    [
      { ...chat(user, assistant), tools: Array(129).fill({}) },
      "content -: has tools a list of 129, expected a list of 1 to 128",
    ],
    [{ ...chat(user, assistant), tools: {} }, "content -: has tools an object, expected a list of 1 to 128"],
    [
      { ...chat(user, assistant), tools: [{ type: "retrieval", function: { name: "f" } }] },
      'content -: has tools[0].type "retrieval", expected "function"',
    ],
    [
      { ...chat(user, assistant), tools: [{ type: "function", function: { name: "f", parameters: "x" } }] },
      'content -: has tools[0].function.parameters "x", expected a JSON schema object',
    ],
    [
      { ...chat(user, assistant), tools: [{ type: "function", function: { name: "f", strict: 1 } }] },
      "content -: has tools[0].function.strict 1, expected true or false",
    ],
    [
      { ...chat(user, assistant), tools: [{ type: "function", function: { name: "f", description: 1 } }] },
      "content -: has tools[0].function.description 1, expected a text",
    ],
    [
      { ...chat(user, assistant), functions: [{}] },
      "content -: has functions[0].name missing, expected the name of a function",
    ],
    [
      {
        ...chat(user, assistant),
        functions: [{ name: "f" }],
        tools: [{ type: "function", function: { name: "f" } }],
      },
      "content -: has both tools and functions (deprecated); keep tools",
    ],
    [
      { ...chat(user, assistant), parallel_tool_calls: "yes" },
      'content -: has parallel_tool_calls "yes", expected true or false',
    ],
  ])("%j", (value, wanted) => {
    const { example, faults } = readTrainingExample(value);
    expect(faults.map(clause)).toEqual([wanted]);
    expect(example).toBeNull();
  });

  it("all of a line, and long texts cut", () => {
    const { faults } = readTrainingExample({
      x: 1,
      ...chat({ role: "y".repeat(200), content: "" }, { role: "user" }),
    });
    expect(faults.map(clause)).toEqual([
      'shape -: contains an extra "x"',
      `content 1: has role "${"y".repeat(77)}…", expected one of system, developer, user, assistant, tool`,
      'shape 2: is missing key "content"',
    ]);
  });
});

describe("good lines", () => {
  const read = (value: unknown) => {
    const { example, faults } = readTrainingExample(value);
    expect(faults).toEqual([]);
    return example;
  };

  it("keep messages, weights, names and tools as they are, null members as absent", () => {
    const tools = [
      {
        type: "function",
        function: { name: "f", description: "d", parameters: { type: "object" }, strict: true },
      },
    ];
    const messages = [
      { role: "system", content: "s" },
      { role: "developer", content: "" },
      { role: "user", content: "u", name: "ada" },
      { role: "user", content: "again" },
      { role: "assistant", content: "a", weight: 0 },
      { role: "assistant", content: null, tool_calls: [call] },
      { role: "tool", content: "1", tool_call_id: "c1" },
      { role: "assistant", content: "b", weight: 1 },
      { role: "user", content: "bye" },
    ];
    expect(read({ messages, tools, parallel_tool_calls: false })).toEqual({
      messages,
      tools,
      parallelToolCalls: false,
    });
    expect(
      read({
        ...chat(
          { ...user, name: null },
          { ...assistant, refusal: null, tool_calls: [], function_call: null, weight: null },
        ),
        tools: null,
        parallel_tool_calls: null,
      }),
    ).toEqual({ messages: [user, assistant] });
  });

  it("join text parts", () => {
    const parts = [
      { type: "text", text: "a " },
      { type: "text", text: "b" },
    ];
    expect(read(chat({ role: "user", content: parts }, assistant))?.messages[0]).toEqual({
      role: "user",
      content: "a b",
    });
  });

  it("turn deprecated functions into tools", () => {
    const functionCall = { name: "f", arguments: "{}" };
    const value = {
      functions: [{ name: "f", parameters: {} }],
      messages: [
        user,
        { role: "assistant", content: null, function_call: functionCall },
        { role: "function", name: "f", content: "1" },
        { role: "assistant", content: "so", function_call: functionCall },
        { role: "function", name: "f", content: "2" },
        assistant,
      ],
    };
    const toolCall = (id: string) => [{ id, type: "function", function: functionCall }];
    expect(read(value)).toEqual({
      tools: [{ type: "function", function: { name: "f", parameters: {} } }],
      messages: [
        user,
        { role: "assistant", content: null, tool_calls: toolCall("call_function_1") },
        { role: "tool", content: "1", tool_call_id: "call_function_1" },
        { role: "assistant", content: "so", tool_calls: toolCall("call_function_2") },
        { role: "tool", content: "2", tool_call_id: "call_function_2" },
        assistant,
      ],
    });
  });
});

it("other formats are told apart", () => {
  expect(foreignFormat({ input: {}, preferred_output: [], non_preferred_output: [] })).toBe("preference");
  expect(foreignFormat({ input: {}, preferred_completion: [] })).toBe("preference");
  expect(foreignFormat({ prompt: "a", completion: "b" })).toBe("completion");
  expect(foreignFormat({ messages: [], prompt: "a", completion: "b" })).toBeNull();
  expect(foreignFormat({ prompt: "a" })).toBeNull();
  expect(foreignFormat([])).toBeNull();
});
