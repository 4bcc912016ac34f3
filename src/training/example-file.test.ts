// Data files against the tiny model with a template that refuses tools: every line that cannot be trained on is named, cuts
// are counted, and a file that is not the job's own is refused.
import { createHash } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeTinyModel } from "../../scripts/make-tiny-model.ts";
import { createChatTemplate } from "../data/chat-template.ts";
import type { DatasetParam } from "../data/dataset.ts";
import type { ChatEncoding } from "../data/prompt.ts";
import { createTokenizer } from "../data/tokenizer.ts";
import { DatasetError } from "../errors.ts";
import { openBaseModel } from "../model/base-model.ts";
import { ExampleFile } from "./example-file.ts";
import { CHATS } from "./line-encoding.ts";
import type { JobRecipe } from "./job-directory.ts";

/** ChatML. */
const REFUSING_TEMPLATE =
  "{% if tools %}{{ raise_exception('No tools.') }}{% endif %}{% for message in messages %}" +
  "{% if message.tool_calls %}{{ raise_exception('No tool calls.') }}{% endif %}" +
  "{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}{% endfor %}" +
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

let folder: string;
let encoding: ChatEncoding;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "example-file-"));
  await makeTinyModel(join(folder, "model"));
  const model = await openBaseModel(join(folder, "model"));
  encoding = {
    tokenizer: createTokenizer(model.tokenizer),
    template: createChatTemplate({ ...model.tokenizer, chatTemplate: REFUSING_TEMPLATE }),
  };
  await model.close();
});
afterAll(() => rm(folder, { recursive: true }));

const talk = (user: string, answer = "yes") => ({
  messages: [
    { role: "user", content: user },
    { role: "assistant", content: answer },
  ],
});
const TOOL_CALL = {
  messages: [
    { role: "user", content: "What time is it?" },
    {
      role: "assistant",
      tool_calls: [{ id: "c1", type: "function", function: { name: "clock", arguments: "{}" } }],
    },
  ],
};
const WEATHER = { type: "function", function: { name: "weather", parameters: { type: "object" } } };

interface Options {
  param?: DatasetParam;
  maxLength?: number;
  sha256?: string;
  signal?: AbortSignal;
  encoding?: typeof CHATS;
}

const encode = async (...given: Parameters<typeof open>) => (await open(...given)).all();

async function open(rows: readonly object[], options: Options = {}) {
  const { param = "training_file", maxLength = 100 } = options;
  const text = rows.map((row) => `${JSON.stringify(row)}\n`).join("");
  await writeFile(join(folder, "data.jsonl"), text);
  const sha256 = options.sha256 ?? createHash("sha256").update(text).digest("hex");
  const data = { file: "data.jsonl", sha256 };
  const recipe = {
    trainingData: param === "training_file" ? data : null,
    validationData: param === "validation_file" ? data : null,
  } as unknown as JobRecipe;
  const signal = options.signal ?? new AbortController().signal;
  return openFile(recipe, param, { encoding: CHATS, ...options, maxLength, signal });
}

function openFile(
  recipe: JobRecipe,
  param: DatasetParam,
  given: Required<Pick<Options, "encoding" | "maxLength" | "signal">>,
) {
  const options = { ...encoding, maxLength: given.maxLength };
  return ExampleFile.open(folder, recipe, param, { encoding: given.encoding, options, signal: given.signal });
}

async function failure(...given: Parameters<typeof encode>): Promise<DatasetError> {
  const error: unknown = await encode(...given).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(DatasetError);
  return error as DatasetError;
}

const TEN = Array.from({ length: 10 }, (_, i) => talk(`Question ${i}`));

describe("a file of examples", () => {
  it("encodes every line, and nothing where the job has no such file", async () => {
    const encoded = await encode(TEN);
    expect(encoded.examples).toHaveLength(10);
    expect(encoded.truncated).toEqual({ examples: 0, tokens: 0 });
    expect(encoded.trainedTokens).toBeGreaterThan(100);
    const recipe = { validationData: null } as unknown as JobRecipe;
    const signal = new AbortController().signal;
    const none = await openFile(recipe, "validation_file", { encoding: CHATS, maxLength: 100, signal });
    expect(none.count).toBe(0);
    expect((await none.all()).examples).toEqual([]);
  });

  it("encodes a line once, when it is first asked for or when there is time", async () => {
    const encodedLines: string[] = [];
    const counting: typeof CHATS = {
      ...CHATS,
      encode: (line, options) => (
        encodedLines.push(line.messages[0]?.content ?? ""),
        CHATS.encode(line, options)
      ),
    };
    const file = await open(TEN, { encoding: counting });
    expect(encodedLines).toEqual([]);
    const whole = await encode(TEN);
    expect(await file.at([7, 2, 7])).toEqual([7, 2, 7].map((place) => whole.examples[place]));
    expect(encodedLines).toEqual(["Question 7", "Question 2"]);
    let looks = 0;
    await file.encodeUntil(() => looks++ === 3);
    expect(encodedLines.slice(2)).toEqual(["Question 0", "Question 1", "Question 3"]);
    expect(file.isEncoded).toBe(false);
    await file.encodeUntil(() => false);
    expect(file.isEncoded).toBe(true);
    expect(encodedLines).toHaveLength(10);
    expect(await file.all()).toEqual(whole);
    expect(encodedLines).toHaveLength(10);
  });

  it("names every line that cannot be trained on at the first that is met", async () => {
    const rows = [TOOL_CALL, ...TEN, TOOL_CALL, talk("x ".repeat(80)), ...TEN];
    const { message } = await failure(rows, { maxLength: 60 });
    const file = await open(rows, { maxLength: 60 });
    await file.at([1, 5, 20]);
    await expect(file.at([3, 12])).rejects.toMatchObject({ message, lines: [1, 12, 13] });
    await expect(file.encodeUntil(() => false)).rejects.toMatchObject({ message, lines: [1, 12, 13] });
  });

  it("counts the examples that are cut, and their tokens", async () => {
    const rows = [...TEN, talk("Hi", "word ".repeat(200)), talk("Hi", "word ".repeat(300))];
    const whole = await encode(rows, { maxLength: 10_000 });
    const cut = await encode(rows, { maxLength: 60 });
    const lost = whole.examples.reduce((sum, { tokens }) => sum + Math.max(0, tokens.length - 60), 0);
    expect(lost).toBeGreaterThan(400);
    expect(cut.truncated).toEqual({ examples: 2, tokens: lost });
    expect(cut.examples.slice(-2).map(({ tokens }) => tokens.length)).toEqual([60, 60]);
  });

  it("names every line that the template cannot show or that is cut before its answer", async () => {
    const rows = [...TEN, TOOL_CALL, talk("x ".repeat(80)), { ...talk("Rain?"), tools: [WEATHER] }];
    const error = await failure(rows, { maxLength: 60 });
    expect(error).toMatchObject({
      code: "invalid_training_file",
      param: "training_file",
      lines: [11, 12, 13],
    });
    const [head, ...lines] = error.message.split("\n");
    expect(head).toBe("The job failed due to an invalid training file. 3 lines are wrong:");
    expect(lines[0]).toBe(
      "Example 11 cannot be trained on: This model's chat template cannot show these messages: No tool calls.",
    );
    expect(lines[1]).toMatch(
      /^Example 12 has \d{3} tokens and is cut after 60, before the answer it should teach; shorten it or leave it out\.$/,
    );
    expect(lines[2]).toBe(
      "Example 13 cannot be trained on: This model's chat template cannot show these messages: No tools.",
    );
  });

  it("names the first twenty lines and counts the rest; a validation file goes by its own name", async () => {
    const rows = Array.from({ length: 25 }, () => TOOL_CALL);
    const error = await failure(rows, { param: "validation_file" });
    expect(error).toMatchObject({ code: "invalid_validation_file", param: "validation_file" });
    expect(error.message).toMatch(
      /^The job failed due to an invalid validation file\. 25 lines are wrong:\nExample 1 /,
    );
    expect(error.message.endsWith("\n… and 5 more.")).toBe(true);
    expect(error.lines).toHaveLength(20);
  });

  it("refuses data that was changed since the job was prepared", async () => {
    const error = await failure(TEN, { sha256: "ab" });
    expect(error).toMatchObject({ code: "changed_training_file", param: "training_file" });
    expect(error.message).toMatch(
      /^The job's data\.jsonl must have sha256 ab, has [0-9a-f]{64}: it was changed in the job's folder since the job was prepared\. Create the job again\.$/,
    );
    const recipe = { trainingData: { file: "none.jsonl", sha256: "ab" } } as unknown as JobRecipe;
    const { signal } = new AbortController();
    const gone = openFile(recipe, "training_file", { encoding: CHATS, maxLength: 100, signal });
    await expect(gone).rejects.toThrow(
      "The job's none.jsonl must have sha256 ab, and is gone: it was changed",
    );
  });

  it("stops between examples when it is asked to", async () => {
    const stop = new AbortController();
    const encoded = encode(
      Array.from({ length: 3000 }, () => TEN[0] as object),
      { signal: stop.signal },
    );
    setTimeout(() => stop.abort(new Error("asked to stop")), 30);
    await expect(encoded).rejects.toThrow();
  });
});
