// Templates: what is replaced, what stays, and what each bad variable is told.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { GradingFault } from "./grading-fault.ts";
import { sampleOfText } from "./sample.ts";
import { fillTemplate, MAX_FILLED_CHARACTERS, parseTemplate } from "./template.ts";

const context = {
  item: {
    text: "Paris",
    count: 3,
    half: 0.5,
    yes: true,
    nothing: null,
    list: ["a", { b: ["c"] }],
    "two words": 1,
    "with-dash": 2,
    über: 4,
  },
  sample: sampleOfText('{"name": "Ada", "tags": ["x", "y"]}'),
};
const fill = (text: string, of = context) => fillTemplate(parseTemplate(text), of);

it.each([
  ["{{ item.text }}", "Paris"],
  ["{{item.text}}", "Paris"],
  ["{{\n item.text\t}}", "Paris"],
  ["<{{item.text}}|{{item.text}}>", "<Paris|Paris>"],
  ["{{item.count}} {{item.half}} {{item.yes}} {{item.nothing}}", "3 0.5 true null"],
  ["{{item.list}}", '["a",{"b":["c"]}]'],
  ["{{item.list[1].b[0]}} {{item.list.0}} {{item['list'][0]}}", "c a a"],
  ['{{item["two words"]}} {{item.with-dash}} {{item.über}}', "1 2 4"],
  ["{{sample.output_json.name}} {{ sample.output_json.tags[1] }}", "Ada y"],
  ["{{sample.output_text}}", context.sample.output_text],
  ["{{sample.choices[0].message.role}} {{sample.output_tools}} {{sample.output_audio}}", "assistant [] null"],
  ['{"a": {"b": 1}} { item.text }', '{"a": {"b": 1}} { item.text }'],
  ["", ""],
])("%s becomes %s", (text, wanted) => {
  expect(fill(text)).toBe(wanted);
});

it("what a value holds is not filled in again", () => {
  expect(fill("{{item.text}}", { ...context, item: { ...context.item, text: "{{item.count}}" } })).toBe(
    "{{item.count}}",
  );
});

describe("faults", () => {
  const faultOf = (text: string, of = context): GradingFault => {
    try {
      fill(text, of);
    } catch (error) {
      if (error instanceof GradingFault) return error;
      throw error;
    }
    throw new Error(`${text} was filled in`);
  };

  it.each(["{{sample.output_text", "{{item.text}} and {{ item.text", "{{ item.text }"])(
    "%s is never closed",
    (text) => {
      expect(faultOf(text)).toMatchObject({
        flag: "invalid_variable_error",
        message: expect.stringContaining("which is never closed") as string,
      });
    },
  );

  it.each([
    "item",
    "sample",
    "",
    "name",
    "items.text",
    "item.",
    "item.a..b",
    "item[x]",
    "item[-1]",
    'item["a]',
    "item.a b",
  ])("{{ %s }} is no variable", (variable) => {
    const fault = faultOf(`{{ ${variable} }}`);
    expect(fault.flag).toBe("invalid_variable_error");
    expect(fault.message).toBe(
      `Expected a variable such as {{ item.name }} or {{ sample.output_text }}, but got {{ ${variable} }}. Only 'item' and 'sample' can be named, with .name, [0] or ["name"] behind them.`,
    );
  });

  it.each([
    ["item.missing", "missing"],
    ["item.list[2]", "2"],
    ["item.list.length", "length"],
    ["item.text.length", "length"],
    ["item.constructor", "constructor"],
    ["item.__proto__", "__proto__"],
    ["item.nothing.more", "more"],
    ["sample.output_tools[0].function", "0"],
  ])("{{ %s }} leads nowhere", (variable, step) => {
    const fault = faultOf(`{{ ${variable} }}`);
    expect(fault.flag).toBe("invalid_variable_error");
    expect(fault.message).toBe(`{{ ${variable} }} leads nowhere: there is no '${step}'.`);
  });

  it("a sample that is no JSON has no output_json", () => {
    const fault = faultOf("{{ sample.output_json.name }}", { ...context, sample: sampleOfText("Ada") });
    expect(fault.flag).toBe("sample_parse_error");
    expect(fault.message).toBe("{{ sample.output_json.name }} needs the sample to be JSON, and it is none.");
  });

  it("a text that grows past the limit is refused", () => {
    const item = { text: "x".repeat(1024) };
    const text = "{{item.text}}".repeat(MAX_FILLED_CHARACTERS / 1024 + 1);
    expect(() => fillTemplate(parseTemplate(text), { ...context, item })).toThrow(
      `expected at most ${MAX_FILLED_CHARACTERS} characters`,
    );
  });
});

it("every text either fills in or is a fault, and one without braces stays as it is", () => {
  const pieces = fc.constantFrom(
    "{{",
    "}}",
    "{",
    "}",
    "item",
    "sample",
    ".",
    "[0]",
    '["text"]',
    "text",
    " ",
    "x",
    "\n",
  );
  fc.assert(
    fc.property(fc.array(pieces, { maxLength: 30 }), (parts) => {
      const text = parts.join("");
      try {
        const filled = fill(text);
        if (!text.includes("{{")) expect(filled).toBe(text);
      } catch (error) {
        expect(error).toBeInstanceOf(GradingFault);
      }
    }),
    { numRuns: 2000 },
  );
});
