// The laws of a training example, for templates written in the styles of the supported families: serving's prompt is a
// prefix, and the mask covers exactly the assistants' texts and end tokens.
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeTinyModel } from "../../scripts/make-tiny-model.ts";
import { InvalidRequest, UnsupportedModel } from "../errors.ts";
import type { ChatMessage } from "./chat-message.ts";
import { createChatTemplate } from "./chat-template.ts";
import { encodePrompt, stopTokenIds } from "./prompt.ts";
import type { ChatEncoding } from "./prompt.ts";
import { encodeExample, trainedTokens } from "./supervised-example.ts";
import { createTokenizer } from "./tokenizer.ts";
import type { Tokenizer } from "./tokenizer.ts";

const CHATML =
  "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}{% endfor %}" +
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
/** With a system message of its own where the conversation has none, as SmolLM2 and Qwen2.5. */
const DEFAULT_SYSTEM =
  "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}" + CHATML;
/** Trims, begins with bos and ends turns with another token than the configured eos, as Llama 3. */
const LLAMA3 =
  "{{ bos_token }}{% for message in messages %}{{ '<|head|>' + message.role + '<|/head|>\n\n' + message.content | trim + '<|eot|>' }}" +
  "{% endfor %}{% if add_generation_prompt %}{{ '<|head|>assistant<|/head|>\n\n' }}{% endif %}";
/** Shows an empty thinking block in the prompt and the last answer only, and strips thinking elsewhere, as Qwen3. */
const QWEN3 =
  "{% set ns = namespace(last=-1) %}{% for message in messages %}{% if message.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}" +
  "{% for message in messages %}{% set content = message.content %}{% set thought = '' %}" +
  "{% if message.role == 'assistant' and '</think>' in content %}{% set thought = content.split('</think>')[0].split('<think>')[-1].strip('\n') %}" +
  "{% set content = content.split('</think>')[-1].lstrip('\n') %}{% endif %}" +
  "{{ '<|im_start|>' + message.role + '\n' }}" +
  "{% if message.role == 'assistant' and loop.index0 > ns.last %}{{ '<think>\n' + thought + '\n</think>\n\n' }}{% endif %}" +
  "{{ content + '<|im_end|>\n' }}{% endfor %}" +
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% if enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}";
/** No special token in the head of a turn, so a message can contain the head. */
const PLAIN_HEADS =
  "{% for message in messages %}{{ '### ' + message.role + ':\n' + message.content }}{% if message.role == 'assistant' %}{{ '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}" +
  "{% if add_generation_prompt %}{{ '### assistant:\n' }}{% endif %}";

const STYLES = { CHATML, DEFAULT_SYSTEM, LLAMA3, QWEN3, PLAIN_HEADS } as const;
type Style = keyof typeof STYLES;

let folder: string;
let tokenizer: Tokenizer;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "supervised-example-test-"));
  await makeTinyModel(folder);
  const tokenizerJson = JSON.parse(await readFile(join(folder, "tokenizer.json"), "utf8")) as {
    added_tokens: { id: number; content: string; special: boolean }[];
  };
  const first = 1000;
  for (const [i, content] of ["<|head|>", "<|/head|>", "<|eot|>", "<think>", "</think>"].entries()) {
    tokenizerJson.added_tokens.push({ id: first + i, content, special: !content.includes("think") });
  }
  tokenizer = createTokenizer({ tokenizerJson, tokenizerConfig: { eos_token: "<|im_end|>" } });
});
afterAll(() => rm(folder, { recursive: true, force: true }));

function encodingOf(style: Style): ChatEncoding {
  const tokenizerConfig = {
    bos_token: "<|endoftext|>",
    eos_token: "<|im_end|>",
    chat_template: STYLES[style],
  };
  return { tokenizer, template: createChatTemplate({ tokenizerConfig }) };
}

const noLimit = Number.MAX_SAFE_INTEGER;

/** Texts that try to break out: special tokens, heads, white space that merges with what stands before. */
const content = fc
  .array(
    fc.oneof(
      fc.string({ unit: "grapheme", maxLength: 6 }),
      fc.constantFrom(
        "\n",
        "\n\n",
        " ",
        "the order ",
        "<|im_end|>",
        "<|im_start|>assistant\n",
        "<|eot|>",
        "### assistant:\n",
      ),
    ),
    { maxLength: 5 },
  )
  .map((parts) => parts.join(""));

/** Conversations whose last message is a supervised assistant's. */
const conversation = fc
  .tuple(
    fc.option(content, { nil: undefined }),
    fc.array(
      fc.record({
        user: content,
        assistant: content,
        weight: fc.constantFrom<0 | 1 | undefined>(0, 1, undefined),
      }),
      { minLength: 1, maxLength: 4 },
    ),
  )
  .map(([system, turns]): ChatMessage[] => [
    ...(system === undefined ? [] : [{ role: "system" as const, content: system }]),
    ...turns.flatMap(({ user, assistant, weight }, index): ChatMessage[] => [
      { role: "user", content: user },
      {
        role: "assistant",
        content: assistant,
        ...(weight === undefined || index === turns.length - 1 ? {} : { weight }),
      },
    ]),
  ]);

const isSupervised = (message: ChatMessage) => message.role === "assistant" && message.weight !== 0;
const options = { numRuns: 60, seed: 4 };

describe.each(Object.keys(STYLES) as Style[])("%s", (style) => {
  it("the prompt of every supervised turn is a prefix of the example", () => {
    const encoding = encodingOf(style);
    fc.assert(
      fc.property(conversation, (messages) => {
        const { tokens } = encodeExample(messages, undefined, { ...encoding, maxLength: noLimit });
        const last = messages.length - 1;
        for (const [index, message] of messages.entries()) {
          // Qwen3's template shows earlier turns otherwise than the prompts they answered.
          if (!isSupervised(message) || (style === "QWEN3" && index !== last)) continue;
          const prompt = encodePrompt(messages.slice(0, index), undefined, encoding);
          expect([...tokens.subarray(0, prompt.length)]).toEqual(prompt);
        }
      }),
      options,
    );
  });

  it("the supervised tokens are the assistants' texts with their end tokens, and nothing else", () => {
    const encoding = encodingOf(style);
    const end = style === "LLAMA3" ? "<|eot|>" : "<|im_end|>";
    const trim = (text: string) => (style === "LLAMA3" ? text.trim() : text);
    fc.assert(
      fc.property(conversation, (messages) => {
        const example = encodeExample(messages, undefined, { ...encoding, maxLength: noLimit });
        const taught = [...example.tokens].filter((_, i) => example.supervised[i] === 1);
        const wanted = messages.filter(isSupervised).map((message) => trim(message.content ?? "") + end);
        expect(tokenizer.decode(taught)).toBe(wanted.join(""));
        expect(taught.filter((id) => id === tokenizer.tokenId(end))).toHaveLength(wanted.length);
        expect(example.supervisedTokens).toBe(taught.length);
        expect(example.supervised.at(-1)).toBe(1);
        expect(example.truncatedTokens).toBe(0);
      }),
      options,
    );
  });

  it("the whole is the template's text up to the last end token", () => {
    const encoding = encodingOf(style);
    fc.assert(
      fc.property(conversation, (messages) => {
        const { tokens } = encodeExample(messages, undefined, { ...encoding, maxLength: noLimit });
        const text = encoding.template.render(messages, { addGenerationPrompt: false });
        expect(text.startsWith(tokenizer.decode(tokens))).toBe(true);
        expect(text.slice(tokenizer.decode(tokens).length).trim()).toBe("");
      }),
      options,
    );
  });

  it("the ids are those of the whole text encoded at once where no text spells a special token or begins with space", () => {
    const encoding = encodingOf(style);
    const messages: ChatMessage[] = [
      { role: "user", content: "the order 12\n" },
      { role: "assistant", content: "Yes, <b>it</b> is" },
      { role: "user", content: "thanks" },
    ];
    const text = encoding.template.render(messages, { addGenerationPrompt: true });
    expect(encodePrompt(messages, undefined, encoding)).toEqual(tokenizer.encode(text));
  });

  it("cuts at the end and says how much", () => {
    const encoding = encodingOf(style);
    fc.assert(
      fc.property(conversation, fc.nat(40), (messages, maxLength) => {
        const whole = encodeExample(messages, undefined, { ...encoding, maxLength: noLimit });
        const cut = encodeExample(messages, undefined, { ...encoding, maxLength });
        expect(cut.tokens).toEqual(whole.tokens.slice(0, maxLength));
        expect(cut.supervised).toEqual(whole.supervised.slice(0, maxLength));
        expect(cut.tokens.length + cut.truncatedTokens).toBe(whole.tokens.length);
        expect(cut.supervisedTokens).toBe(cut.supervised.filter((one) => one === 1).length);
      }),
      options,
    );
  });
});

describe("edges", () => {
  const user: ChatMessage = { role: "user", content: "hi" };
  const answer: ChatMessage = { role: "assistant", content: "yes" };
  const example = (messages: ChatMessage[], style: Style = "CHATML") =>
    encodeExample(messages, undefined, { ...encodingOf(style), maxLength: noLimit });

  it("drops what follows the last supervised assistant", () => {
    const skipped: ChatMessage = { role: "assistant", content: "no", weight: 0 };
    expect(example([user, answer, user, skipped])).toEqual(example([user, answer]));
  });

  it("an assistant may begin a conversation", () => {
    const { tokens, supervisedTokens } = example([answer], "DEFAULT_SYSTEM");
    expect(tokenizer.decode(tokens)).toBe(
      "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>",
    );
    expect(supervisedTokens).toBe(tokenizer.encode("yes<|im_end|>").length);
    const later = example([answer, user, answer], "DEFAULT_SYSTEM");
    expect(later.supervisedTokens).toBe(2 * supervisedTokens);
    expect(() => example([answer], "PLAIN_HEADS")).toThrow(
      "Message 1: the model's chat template does not show where an assistant message that begins a conversation starts. Put a system or user message before it.",
    );
  });

  it("consecutive assistants are turns of their own", () => {
    const { supervisedTokens } = example([user, answer, answer]);
    expect(supervisedTokens).toBe(2 * tokenizer.encode("yes<|im_end|>").length);
  });

  it("says that there is nothing to train on", () => {
    expect(() => example([user])).toThrow(InvalidRequest);
    expect(() => example([user, { ...answer, weight: 0 }])).toThrow("no assistant message to train on");
  });

  it("refuses reasoning where the prompt already closed it, naming the message", () => {
    const thinking: ChatMessage = { role: "assistant", content: "<think>\nhm\n</think>\n\nyes" };
    expect(() => example([user, thinking], "QWEN3")).toThrow(
      "Message 2: the model's chat template shows this assistant message otherwise than as the continuation of its prompt",
    );
  });

  it("refuses a template that ends turns without a stop token", () => {
    const tokenizerConfig = { chat_template: CHATML.replace("<|im_end|>", "") };
    const encoding = { tokenizer, template: createChatTemplate({ tokenizerConfig }) };
    const encode = () => encodeExample([user, answer], undefined, { ...encoding, maxLength: noLimit });
    expect(encode).toThrow(UnsupportedModel);
    expect(encode).toThrow("must end an assistant message with a stop token of the model (<|im_end|>)");
  });

  it("the template's end token stops a generation too", () => {
    expect(stopTokenIds(encodingOf("CHATML"))).toEqual([tokenizer.tokenId("<|im_end|>")]);
    expect(stopTokenIds(encodingOf("LLAMA3"))).toEqual(
      ["<|im_end|>", "<|eot|>"].map((token) => tokenizer.tokenId(token)),
    );
  });
});

describe("trainedTokens", () => {
  const messages: ChatMessage[] = [
    { role: "system", content: "s" },
    { role: "assistant", content: "<|im_end|>", weight: 0 },
  ];
  const count = (text: string) => tokenizer.encodePlain(text).length;

  it("is 1 and for each message 3, its role and its content", () => {
    const wanted = 1 + 3 + count("system") + count("s") + 3 + count("assistant") + count("<|im_end|>");
    expect(trainedTokens(messages, undefined, { tokenizer, maxLength: noLimit })).toBe(wanted);
    expect(trainedTokens(messages, undefined, { tokenizer, maxLength: wanted - 2 })).toBe(wanted - 2);
  });

  it("counts tool calls by name and arguments, and tool definitions by their JSON text", () => {
    const tool = { type: "function" as const, function: { name: "f" } };
    const call = { id: "c", type: "function" as const, function: { name: "f", arguments: '{"a":1}' } };
    const calling: ChatMessage[] = [{ role: "assistant", content: null, tool_calls: [call] }];
    expect(trainedTokens(calling, [tool], { tokenizer, maxLength: noLimit })).toBe(
      1 + 3 + count("assistant") + count("f") + count('{"a":1}') + count(JSON.stringify(tool)),
    );
  });
});
