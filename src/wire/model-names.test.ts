// Ids and model names: formats people write regular expressions for.
import { expect, test } from "vitest";
import { isId, newId } from "./ids.ts";
import type { IdKind } from "./ids.ts";
import { formatModelName, newModelName, parseModelName } from "./model-names.ts";

test.each<[IdKind, RegExp]>([
  ["file", /^file-[1-9A-HJ-NP-Za-km-z]{22}$/],
  ["job", /^ftjob-[A-Za-z0-9]{24}$/],
  ["event", /^ftevent-[A-Za-z0-9]{24}$/],
  ["checkpoint", /^ftckpt_[A-Za-z0-9]{24}$/],
  ["chatCompletion", /^chatcmpl-[A-Za-z0-9]{29}$/],
  ["request", /^req_[0-9a-f]{32}$/],
])("a new %s id has its format and is its own", (kind, format) => {
  const ids = Array.from({ length: 100 }, () => newId(kind));
  for (const id of ids) {
    expect(id).toMatch(format);
    expect(isId(kind, id)).toBe(true);
  }
  expect(new Set(ids).size).toBe(100);
  expect(isId(kind, `${ids[0]}x`)).toBe(false);
});

test.each([
  ["ft:gpt-3.5-turbo-0125:my-org::C4ZiCljE", { suffix: "", checkpointStep: null }],
  [
    "ft:gpt-4o-mini-2024-07-18:personal:taco_bot-2:AbCd1234:ckpt-step-80",
    { suffix: "taco_bot-2", checkpointStep: 80 },
  ],
])("%s is read and written alike", (text, parts) => {
  const name = parseModelName(text);
  expect(name).toMatchObject(parts);
  expect(name && formatModelName(name)).toBe(text);
});

test.each(["gpt-4o", "ft:gpt-4o", "ft:a:b:c:short", "ft:a:b::C4ZiCljE:ckpt-step-0", "xft:a:b::C4ZiCljE"])(
  "%s is no fine-tuned model's name",
  (text) => expect(parseModelName(text)).toBeNull(),
);

test("a new name can always be parsed, whatever the suffix", () => {
  const name = newModelName({
    base: "gpt-4o",
    organization: "personal",
    suffix: "my: süffix/1",
    checkpointStep: 3,
  });
  expect(name).toMatch(/^ft:gpt-4o:personal:my--s-ffix-1:[A-Za-z0-9]{8}:ckpt-step-3$/);
  expect(parseModelName(name)).not.toBeNull();
});
