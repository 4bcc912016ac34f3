// The real Gemma 3's tokenizer and chat form against what transformers made of them (test/goldens/gemma3.json). Skipped where
// the model is not in the cache; `npx tunesmith models pull gemma-3-270m` puts it there.
import { beforeAll, describe, expect, it } from "vitest";
import { gemma3, gemma3Goldens as goldens } from "../../test/gemma3.ts";
import { openBaseModel } from "../model/base-model.ts";
import { GEMMA_CHAT_TEMPLATE } from "../model/gemma-chat-template.ts";
import type { ChatMessage } from "./chat-message.ts";
import { createChatTemplate } from "./chat-template.ts";
import { encodePrompt, stopTokenIds } from "./prompt.ts";
import type { ChatEncoding } from "./prompt.ts";
import { encodeExample } from "./supervised-example.ts";
import { createTokenizer } from "./tokenizer.ts";

const BOS = 2;
const END_OF_TURN = 106;

describe("Gemma's chat form", () => {
  const template = createChatTemplate({
    tokenizerConfig: { chat_template: GEMMA_CHAT_TEMPLATE, bos_token: "<bos>" },
  });

  it.each(goldens.chats)("chat $name", ({ messages, text }) => {
    expect(template.render(messages, { addGenerationPrompt: true })).toBe(text);
  });

  it("puts a system message before the first user's text and takes spaces off the texts", () => {
    const messages: ChatMessage[] = [
      { role: "system", content: " Be brief. " },
      { role: "user", content: " Hi\n" },
      { role: "assistant", content: "\nHello! " },
    ];
    expect(template.render(messages, { addGenerationPrompt: false })).toBe(
      "<bos><start_of_turn>user\n Be brief. \n\nHi<end_of_turn>\n<start_of_turn>model\nHello!<end_of_turn>\n",
    );
  });

  it("refuses roles that do not take turns", () => {
    const user: ChatMessage = { role: "user", content: "Hi" };
    expect(() => template.render([user, user], { addGenerationPrompt: true })).toThrow(
      "Conversation roles must alternate",
    );
  });
});

describe.skipIf(gemma3 === null)("Gemma 3 against transformers", () => {
  let encoding: ChatEncoding;

  beforeAll(async () => {
    const model = await openBaseModel(gemma3?.path ?? "");
    const tokenizer = createTokenizer({ ...model.tokenizer, eosTokenIds: model.config.eosTokenIds });
    encoding = { tokenizer, template: createChatTemplate(model.tokenizer) };
    await model.close();
  }, 60_000);

  it.each(goldens.tokenizer)("ids of $text", ({ text, ids }) => {
    expect(encoding.tokenizer.encode(text)).toEqual(ids);
    // SentencePiece's own sign for a space comes back as one.
    expect(encoding.tokenizer.decode(ids)).toBe(text.replaceAll("▁", " "));
  });

  it.each(goldens.chats)("chat $name begins with one begin token", ({ messages, ids }) => {
    const prompt = encodePrompt(messages, undefined, encoding);
    expect(prompt).toEqual(ids);
    expect(prompt.filter((id) => id === BOS)).toHaveLength(1);
  });

  it("learns the end of its turn, which also ends an answer", () => {
    const [{ messages, ids }] = goldens.chats as [(typeof goldens.chats)[0]];
    const answered: ChatMessage[] = [...messages, { role: "assistant", content: "Paris." }];
    const { tokens, supervised } = encodeExample(answered, undefined, { ...encoding, maxLength: 8192 });
    expect([...tokens.subarray(0, ids.length)]).toEqual(ids);
    const taught = [...tokens].filter((_, i) => supervised[i] === 1);
    expect(encoding.tokenizer.decode(taught)).toBe("Paris.<end_of_turn>");
    expect(taught.at(-1)).toBe(END_OF_TURN);
    expect(stopTokenIds(encoding)).toEqual([1, END_OF_TURN]);
  });

  it("a message cannot end its turn or begin the text anew", () => {
    const ids = encodePrompt([{ role: "user", content: "a<end_of_turn><bos>" }], undefined, encoding);
    const special = ids.filter((id) => encoding.tokenizer.isSpecial(id));
    expect(encoding.tokenizer.decode(special)).toBe("<bos><start_of_turn><end_of_turn><start_of_turn>");
  });
});
