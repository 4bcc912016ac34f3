// The end of an answer that goes on calling tools, fed token by token.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeTinyModel } from "../../scripts/make-tiny-model.ts";
import { PLAIN_SHAPE } from "../data/tool-calls.ts";
import { createTokenizer } from "../data/tokenizer.ts";
import type { Tokenizer } from "../data/tokenizer.ts";
import { openBaseModel } from "../model/base-model.ts";
import { createAnswer } from "./answer.ts";
import type { CompletionEvent } from "./engine.ts";

let folder: string;
let tokenizer: Tokenizer;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tunesmith-answer-"));
  await makeTinyModel(folder);
  const model = await openBaseModel(folder);
  tokenizer = createTokenizer(model.tokenizer);
  await model.close();
});

afterAll(async () => {
  await rm(folder, { recursive: true });
});

/** The events of an answer of this text, and whether all of it was taken. */
function write(text: string, stop: string[] = []) {
  const events: CompletionEvent[] = [];
  const answer = createAnswer({
    options: {
      model: { id: "tiny", baseModel: { id: "tiny", path: folder }, adapterPath: null },
      maxTokens: null,
      temperature: 1,
      topP: 1,
      seed: 1,
      stop,
      n: 1,
      signal: new AbortController().signal,
    },
    index: 0,
    tokenizer,
    stopIds: new Set(),
    maxTokens: 100_000,
    grammar: null,
    tools: { shape: PLAIN_SHAPE, names: new Set(["look"]), isForced: false, finishReason: "tool_calls" },
    emit: (event) => events.push(event),
    fail: (error) => {
      throw error;
    },
  });
  const isOpen = tokenizer.encode(text).every((token) => answer.token(token));
  const calls = events.flatMap((event) => (event.type === "tool-call" ? [event.arguments] : []));
  const told = events.map((event) => (event.type === "text-delta" ? event.text : "")).join("");
  return { calls, isOpen, told, end: events.at(-1) };
}

const call = (args: string) => `${PLAIN_SHAPE.begin}look${PLAIN_SHAPE.middle}${args}${PLAIN_SHAPE.end}\n`;

describe("calls of one answer", () => {
  it("that differ are all told", () => {
    const { calls, isOpen } = write([1, 2, 1].map((at) => call(`{"at": ${at}}`)).join(""));
    expect([calls, isOpen]).toEqual([['{"at": 1}', '{"at": 2}', '{"at": 1}'], true]);
  });

  it("end before one that repeats the call before it, whatever its white space", () => {
    const { calls, isOpen, end } = write(call('{"at": 1}') + call('{"at":1}') + call('{"at": 2}'));
    expect([calls, isOpen]).toEqual([['{"at": 1}'], false]);
    expect(end).toMatchObject({ type: "finish", reason: "tool_calls" });
  });

  it("end with the sixteenth", () => {
    const { calls, isOpen, end } = write(
      Array.from({ length: 20 }, (_, at) => call(`{"at": ${at}}`)).join(""),
    );
    expect([calls.length, calls.at(-1), isOpen]).toEqual([16, '{"at": 15}', false]);
    expect(end).toMatchObject({ type: "finish", reason: "tool_calls" });
  });
});

it("a stop text ends text, and never a call's arguments", () => {
  const { calls, isOpen, told } = write(`I look. ${call('{"at": "END"}')}`, ["END"]);
  expect([calls, isOpen, told]).toEqual([['{"at": "END"}'], true, "I look. "]);
  expect(write("So ENDs it", ["END"])).toMatchObject({ isOpen: false, told: "So ", end: { reason: "stop" } });
});
