// Files of preference pairs against the tiny model: either answer follows the prompt that serving makes and alone is supervised,
// tokens are counted once a prompt, and every pair that cannot be trained on is named.
import { createHash } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { makeTinyModel } from "../../scripts/make-tiny-model.ts";
import type { ChatMessage } from "../data/chat-message.ts";
import { createChatTemplate } from "../data/chat-template.ts";
import { encodePrompt } from "../data/prompt.ts";
import type { ChatEncoding } from "../data/prompt.ts";
import { trainedTokens } from "../data/supervised-example.ts";
import { createTokenizer } from "../data/tokenizer.ts";
import { openBaseModel } from "../model/base-model.ts";
import { ExampleFile } from "./example-file.ts";
import { PAIRS } from "./line-encoding.ts";
import type { JobRecipe } from "./job-directory.ts";

let folder: string;
let encoding: ChatEncoding;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "encode-pairs-"));
  await makeTinyModel(join(folder, "model"));
  const model = await openBaseModel(join(folder, "model"));
  encoding = {
    tokenizer: createTokenizer(model.tokenizer),
    template: createChatTemplate(model.tokenizer),
  };
  await model.close();
});
afterAll(() => rm(folder, { recursive: true }));

const says = (content: string): ChatMessage => ({ role: "assistant", content });
const PROMPT: ChatMessage[] = [
  { role: "system", content: "Be brief." },
  { role: "user", content: "Hi" },
  says("Yes?"),
  { role: "user", content: "What is the time?" },
];
const pair = (preferred = "Noon.", rejected = "I would rather not say.", prompt = PROMPT) => ({
  input: { messages: prompt },
  preferred_output: [says(preferred)],
  non_preferred_output: [says(rejected)],
});

async function encode(rows: readonly object[], maxLength = 200) {
  const text = rows.map((row) => `${JSON.stringify(row)}\n`).join("");
  await writeFile(join(folder, "data.jsonl"), text);
  const sha256 = createHash("sha256").update(text).digest("hex");
  const recipe = { trainingData: { file: "data.jsonl", sha256 } } as unknown as JobRecipe;
  const options = { ...encoding, maxLength };
  const { signal } = new AbortController();
  const encoder = { encoding: PAIRS, options, signal };
  return (await ExampleFile.open(folder, recipe, "training_file", encoder)).all();
}
const times = <T>(count: number, value: T): T[] => Array<T>(count).fill(value);

it("either answer stands behind serving's prompt, and nothing but it is supervised", async () => {
  const prompt = encodePrompt(PROMPT, undefined, encoding);
  const { examples } = await encode(times(10, pair()));
  const [first] = examples;
  for (const [side, answer] of [
    [first?.preferred, "Noon."],
    [first?.rejected, "I would rather not say."],
  ] as const) {
    const tokens = [...(side?.tokens ?? [])];
    expect(tokens.slice(0, prompt.length)).toEqual(prompt);
    expect([...(side?.supervised ?? [])]).toEqual(tokens.map((_, i) => Number(i >= prompt.length)));
    expect(encoding.tokenizer.decode(tokens.slice(prompt.length))).toBe(`${answer}<|im_end|>`);
  }
});

it("trained tokens are those of the prompt and both answers", async () => {
  const options = { tokenizer: encoding.tokenizer, maxLength: 200 };
  const both = [...PROMPT, says("Noon."), says("I would rather not say.")];
  const { trainedTokens: found } = await encode(times(10, pair()));
  expect(found).toBe(10 * trainedTokens(both, undefined, options));
});

it("cuts each side at its end and says how much that was", async () => {
  const whole = (await encode(times(10, pair()))).examples[0];
  const limit = (whole?.preferred.tokens.length ?? 0) + 1;
  const { examples, truncated } = await encode(times(10, pair()), limit);
  expect(examples[0]?.preferred.tokens).toEqual(whole?.preferred.tokens);
  expect(examples[0]?.rejected.tokens).toEqual(whole?.rejected.tokens.slice(0, limit));
  const lost = (whole?.rejected.tokens.length ?? 0) - limit;
  expect(truncated).toEqual({ examples: 10, tokens: 10 * lost });
});

it("names pairs whose answers are cut away, or are the same in what is left", async () => {
  const prompt = encodePrompt(PROMPT, undefined, encoding).length;
  const long: ChatMessage[] = [{ role: "user", content: "Hi ".repeat(100) }];
  const rows = [...times(10, pair("a", "b")), pair("a", "b", long), pair("same, yes", "same, no")];
  const limit = prompt + 2;
  await expect(encode(rows, limit)).rejects.toMatchObject({
    code: "invalid_training_file",
    lines: [11, 12],
    message: expect.stringMatching(
      new RegExp(
        `Example 11 has \\d+ tokens and is cut after ${limit}, before its answers; shorten it or leave it out\\.\n` +
          `Example 12 has two outputs that are the same in the ${limit} tokens that are kept`,
      ),
    ) as unknown,
  });
});
