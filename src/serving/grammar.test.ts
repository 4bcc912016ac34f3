// Answers of a model with random weights: whatever it would like to say, a grammar leaves it only what is valid.
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";
import { makeTinyModel } from "../../scripts/make-tiny-model.ts";
import { schemaFault } from "../wire/json-schema.ts";
import { EmbeddedEngine } from "./embedded-engine.ts";
import type { CompletionEvent, CompletionRequest } from "./engine.ts";

let folder: string;
let engine: EmbeddedEngine;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tunesmith-grammar-"));
  await makeTinyModel(folder);
  engine = new EmbeddedEngine({ threads: 1 });
});

afterAll(async () => {
  await engine.close();
  await rm(folder, { recursive: true });
});

async function ask(changes: Partial<CompletionRequest>) {
  const texts: string[] = [];
  const calls: Extract<CompletionEvent, { type: "tool-call" }>[] = [];
  const reasons: string[] = [];
  const events = engine.complete({
    model: { id: "tiny", baseModel: { id: "tiny", path: folder }, adapterPath: null },
    messages: [{ role: "user", content: "Hello there" }],
    maxTokens: 300,
    temperature: 1,
    topP: 1,
    seed: 1,
    stop: [],
    n: 1,
    signal: new AbortController().signal,
    ...changes,
  });
  for await (const event of events) {
    if (event.type === "text-delta") texts[event.index] = (texts[event.index] ?? "") + event.text;
    else if (event.type === "tool-call") calls.push(event);
    else if (event.type === "finish") reasons[event.index] = event.reason;
  }
  return { texts, calls, reasons };
}

const closed = (properties: Record<string, unknown>) => ({
  type: "object",
  properties,
  required: Object.keys(properties),
  additionalProperties: false,
});

const SCHEMAS: Record<string, Record<string, unknown>> = {
  "enums and null": closed({
    category: { type: "string", enum: ["billing", "shipping", "other"] },
    order: { anyOf: [{ type: "string", maxLength: 4 }, { type: "null" }] },
    human: { type: "boolean" },
  }),
  "numbers in bounds": closed({
    stars: { type: "integer", minimum: 1, maximum: 5 },
    negative: { type: "integer", minimum: -12, exclusiveMaximum: 0 },
    code: { const: 7 },
  }),
  "short lists of objects": closed({
    items: { type: "array", minItems: 1, maxItems: 3, items: closed({ tag: { enum: ["a", "b", 1, null] } }) },
  }),
  "a definition that refers to itself": {
    ...closed({ value: { type: "boolean" }, next: { anyOf: [{ $ref: "#/$defs/node" }, { type: "null" }] } }),
    $defs: {
      node: closed({
        value: { type: "boolean" },
        next: { anyOf: [{ $ref: "#/$defs/node" }, { type: "null" }] },
      }),
    },
  },
  "a pattern": closed({
    id: { type: "string", pattern: "^[A-Z]{2}-[0-9]{3}$" },
  }),
  "values that need escaping": closed({ "ü €": { enum: ['quote "', "line\n", "\\", "😀"] } }),
};

describe("json_schema", () => {
  it.each(Object.entries(SCHEMAS))("%s: always valid, and at its end", async (_name, schema) => {
    expect(schemaFault(schema, { strict: true })).toBe(null);
    const judge = z.fromJSONSchema(schema);
    for (const temperature of [0, 1, 2]) {
      const { texts, reasons } = await ask({ form: { type: "json_schema", schema }, temperature, n: 6 });
      for (const [i, text] of texts.entries()) {
        expect(reasons[i], text).toBe("stop");
        const value: unknown = JSON.parse(text);
        expect(judge.safeParse(value), text).toMatchObject({ success: true });
        expect(Object.keys(value as object)).toEqual(Object.keys(schema["properties"] as object));
      }
    }
  });

  it("wastes no tokens on white space, however much the model would like to", async () => {
    const schema = closed({ a: { const: 1 }, b: { const: 2 } });
    const { texts } = await ask({ form: { type: "json_schema", schema }, temperature: 2, n: 12 });
    for (const text of texts) expect(text).not.toMatch(/\s\s/);
    expect(texts).toHaveLength(12);
  });

  it("keeps to the schema whatever logit_bias asks for", async () => {
    const schema = closed({ yes: { const: true } });
    const logitBias = new Map(Array.from({ length: 300 }, (_, id) => [id, id % 2 === 0 ? 100 : -100]));
    const { texts } = await ask({ form: { type: "json_schema", schema }, logitBias });
    expect(JSON.parse(texts[0] ?? "")).toEqual({ yes: true });
  });
});

describe("json_object", () => {
  it("is a prefix of an object at every length, and JSON where it ends by itself", async () => {
    const { texts, reasons } = await ask({ form: { type: "json_object" }, n: 8, maxTokens: 200 });
    for (const [i, text] of texts.entries()) {
      expect(text).toMatch(/^\{/);
      if (reasons[i] === "stop") expect(JSON.parse(text)).toBeTypeOf("object");
    }
    expect(reasons).toContain("stop");
  });
});

const WEATHER = {
  type: "function" as const,
  function: {
    name: "get_weather",
    description: "The weather of a city",
    parameters: closed({
      city: { type: "string", enum: ["Paris", "Rome"] },
      days: { type: "integer", minimum: 1, maximum: 3 },
    }),
  },
};
const TIME = { type: "function" as const, function: { name: "get_time", parameters: closed({}) } };
const tools = [WEATHER, TIME];
const constrainedTools = new Set(["get_weather", "get_time"]);

describe("tools", () => {
  it("a call asked for by name is that one call, and ends like any answer", async () => {
    const { texts, calls, reasons } = await ask({
      tools,
      constrainedTools,
      toolChoice: { name: "get_weather" },
      n: 24,
      temperature: 2,
      maxTokens: 600,
    });
    expect(texts.join("")).toBe("");
    expect(reasons).toEqual(Array(24).fill("stop"));
    expect(calls.map(({ call, name }) => [call, name])).toEqual(Array(24).fill([0, "get_weather"]));
    expect(new Set(calls.map(({ index }) => index)).size).toBe(24);
    const judge = z.fromJSONSchema(WEATHER.function.parameters as Parameters<typeof z.fromJSONSchema>[0]);
    for (const call of calls)
      expect(judge.safeParse(JSON.parse(call.arguments))).toMatchObject({ success: true });
  });

  it("required gives at least one call of a tool that was offered", async () => {
    const { calls, reasons } = await ask({ tools, constrainedTools, toolChoice: "required", n: 4 });
    expect(new Set(calls.map(({ index }) => index))).toEqual(new Set([0, 1, 2, 3]));
    for (const { name } of calls) expect(constrainedTools).toContain(name);
    expect(reasons.filter((reason) => reason === "tool_calls").length).toBeGreaterThan(0);
  });

  it("beside a schema, an answer is either calls or JSON of the schema", async () => {
    const schema = closed({ sunny: { type: "boolean" } });
    const form = { type: "json_schema" as const, schema };
    const judge = z.fromJSONSchema(schema as Parameters<typeof z.fromJSONSchema>[0]);
    const { texts, calls, reasons } = await ask({ tools, constrainedTools, form, n: 24, temperature: 2 });
    const callers = new Set(calls.map(({ index }) => index));
    for (let i = 0; i < 24; i++) {
      if (callers.has(i)) expect([texts[i] ?? "", reasons[i]]).toEqual(["", "tool_calls"]);
      else expect([judge.safeParse(JSON.parse(texts[i] ?? "")).success, reasons[i]]).toEqual([true, "stop"]);
    }
    expect(callers.size).toBeGreaterThan(0);
    expect(callers.size).toBeLessThan(24);
    expect(calls.length).toBeGreaterThan(callers.size);
    const forced = await ask({ tools, constrainedTools, form, toolChoice: { name: "get_time" } });
    expect(forced.calls.map(({ name }) => name)).toEqual(["get_time"]);
  });

  it("a call that is cut off comes with the beginning of its arguments", async () => {
    const toolChoice = { name: "get_weather" };
    const { texts, calls, reasons } = await ask({ tools, constrainedTools, toolChoice, maxTokens: 60 });
    expect([texts.join(""), reasons]).toEqual(["", ["length"]]);
    expect(calls).toMatchObject([{ name: "get_weather", arguments: expect.stringMatching(/^\{/) as string }]);
    expect(() => void JSON.parse(calls[0]?.arguments ?? "")).toThrow();
  });

  it("wherever a forced answer is cut off, none of a call's syntax is its text", async () => {
    for (const maxTokens of [1, 6, 20, 45, 52, 58, 64, 75]) {
      const { texts, calls } = await ask({
        tools,
        constrainedTools,
        toolChoice: "required",
        n: 8,
        maxTokens,
      });
      expect([maxTokens, texts.join("")]).toEqual([maxTokens, ""]);
      for (const { arguments: args } of calls) expect(args).toMatch(/^(\{|$)/);
    }
  });

  it("arguments keep to a pattern, whatever stands for its characters in JSON", async () => {
    const parameters = closed({ a: { type: "string", pattern: "^.{1,3}$" } });
    const quote = {
      type: "function" as const,
      function: { name: "quote", parameters: parameters as Record<string, unknown> },
    };
    const tokenizer = JSON.parse(await readFile(join(folder, "tokenizer.json"), "utf8")) as {
      model: { vocab: Record<string, number> };
    };
    const quoteToken = tokenizer.model.vocab['"'] ?? -1;
    const { calls, texts } = await ask({
      tools: [quote],
      constrainedTools: new Set(["quote"]),
      toolChoice: { name: "quote" },
      n: 16,
      temperature: 2,
      logitBias: new Map([[quoteToken, 30]]),
    });
    expect([texts.join(""), calls.length]).toEqual(["", 16]);
    for (const call of calls) {
      const { a } = JSON.parse(call.arguments) as { a: string };
      expect(a).toMatch(/^.{1,3}$/u);
    }
  });

  it("left to the model, an answer without a call is text", async () => {
    const { texts, calls, reasons } = await ask({ tools, maxTokens: 20, temperature: 0 });
    expect([calls, reasons]).toEqual([[], ["length"]]);
    expect(texts[0]).not.toBe("");
  });
});
