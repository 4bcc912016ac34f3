import { expect, test } from "vitest";
import type { ResponseInputItem } from "../wire/response-items.ts";
import { continued, toMessages } from "./response-conversation.ts";

const call = (call_id: string): ResponseInputItem => ({
  type: "function_call",
  call_id,
  name: "f",
  arguments: "{}",
});
const output = (call_id: string, text = call_id): ResponseInputItem => ({
  type: "function_call_output",
  call_id,
  output: text,
});
const says = (role: "user" | "assistant", content: string): ResponseInputItem => ({ role, content });

/** "assistant:text+calls" and "tool:result", in order. */
const shown = (items: ResponseInputItem[]) =>
  toMessages(null, continued([], items)).map(
    ({ role, content, tool_calls: calls }) =>
      `${role}:${content ?? ""}${(calls ?? []).map(({ id }) => `+${id}`).join("")}`,
  );

test("calls that follow each other are one message, with the text before them", () => {
  expect(shown([says("assistant", "wait"), call("a"), call("b"), output("b"), output("a")])).toEqual([
    "assistant:wait+a+b",
    "tool:a",
    "tool:b",
  ]);
});

test("a call behind a result is a turn of its own", () => {
  expect(shown([call("a"), output("a"), call("b"), output("b")])).toEqual([
    "assistant:+a",
    "tool:a",
    "assistant:+b",
    "tool:b",
  ]);
});

test("a result stands behind its call whatever was said in between", () => {
  expect(shown([call("a"), says("user", "and?"), output("a"), says("user", "so?")])).toEqual([
    "assistant:+a",
    "tool:a",
    "user:and?",
    "user:so?",
  ]);
});

test("a call_id may come again once it was answered", () => {
  expect(shown([call("a"), output("a", "1"), call("a"), output("a", "2")])).toEqual([
    "assistant:+a",
    "tool:1",
    "assistant:+a",
    "tool:2",
  ]);
  expect(() => shown([call("a"), output("a"), output("a")])).toThrow(/No tool call found/);
});

test("every item of a conversation has an id of its own", () => {
  const first = continued([], "Hi");
  const items = continued(first, [{ ...says("user", "x"), id: first[0]?.id }, call("a")]);
  expect(new Set(items.map(({ id }) => id)).size).toBe(3);
  expect(items[0]).toBe(first[0]);
});
