// A conversation as the token ids a model is prompted with, and the cut of a rendered conversation at its assistant turns
// that training's loss mask is made from. It knows no loss.
//
// Two rules, both for serving and training, so that they see the same ids:
// - What a message says is data. Where it spells a special token ("<|im_end|>"), it becomes ordinary text, as with
//   OpenAI; transformers would let it end the turn. Without such text the ids are those of transformers.
// - The text is encoded in pieces cut where each assistant turn begins, because that is where generation began:
//   the ids of a later prompt start with the ids the earlier answer was generated after.
import { randomInt } from "node:crypto";
import { InvalidRequest } from "../errors.ts";
import type { ChatMessage, ToolDefinition } from "./chat-message.ts";
import type { ChatTemplate } from "./chat-template.ts";
import { anyOf } from "./tokenizer.ts";
import type { Tokenizer } from "./tokenizer.ts";
import { joined } from "./word-encoder.ts";
import type { TokenParts } from "./word-encoder.ts";

/** What turns conversations of one model into ids. */
export interface ChatEncoding {
  tokenizer: Tokenizer;
  template: ChatTemplate;
}

/** The ids a model answers: the conversation and the head of the assistant's next turn. */
export function encodePrompt(
  messages: readonly ChatMessage[],
  tools: readonly ToolDefinition[] | undefined,
  encoding: ChatEncoding,
): number[] {
  return joined(encodePromptInParts(messages, tools, encoding));
}

/** As encodePrompt, part by part, so that a server can answer others in between; parts may be empty. */
export function* encodePromptInParts(
  messages: readonly ChatMessage[],
  tools: readonly ToolDefinition[] | undefined,
  encoding: ChatEncoding,
): TokenParts {
  const conversation = new RenderedConversation(messages, tools, encoding);
  yield [];
  for (const { text } of conversation.pieces) yield* conversation.encodeInParts(text);
}

/** A stretch of a rendered conversation. */
export interface Piece {
  text: string;
  /** The assistant message whose turn begins here, or null for the stretch before the first. */
  turnOf: number | null;
}

/**
 * The text an assistant's first message of a conversation follows. No prompt of serving is without messages, and templates
 * show an empty conversation in their own ways, so it is read from the rendering of the message itself.
 */
function openingOf(whole: string, { head }: TurnShape): string {
  const at = head === null ? -1 : whole.indexOf(head);
  if (head === null || at === -1) {
    throw new InvalidRequest(
      "Message 1: the model's chat template does not show where an assistant message that begins a conversation starts. Put a system or user message before it.",
      { param: "messages[0]" },
    );
  }
  return whole.slice(0, at + head.length);
}

/** A conversation rendered as a prompt and cut where its assistant turns begin. */
export class RenderedConversation {
  /** In order; joined they are the whole prompt. */
  readonly pieces: readonly Piece[];
  /** The prompt, message texts protected. */
  readonly text: string;
  readonly #encoding: ChatEncoding;
  readonly #messages: readonly ChatMessage[];
  readonly #tools: readonly ToolDefinition[] | undefined;
  readonly #protection: SpecialTextProtection;

  /** `answer` is the assistant message that follows, needed only where `messages` may be empty. */
  constructor(
    messages: readonly ChatMessage[],
    tools: readonly ToolDefinition[] | undefined,
    encoding: ChatEncoding,
    answer?: ChatMessage,
  ) {
    this.#encoding = encoding;
    this.#messages = messages;
    this.#tools = tools;
    this.#protection = protectionFor(encoding.tokenizer);
    this.text =
      messages.length === 0 && answer !== undefined
        ? openingOf(this.render([answer], false), turnShape(encoding))
        : this.render(messages, true);
    const starts = this.#turnStarts();
    const cuts = [...starts.values(), this.text.length];
    this.pieces = [
      { text: this.text.slice(0, cuts[0]), turnOf: null },
      ...[...starts.keys()].map((turnOf, k) => ({ text: this.text.slice(cuts[k], cuts[k + 1]), turnOf })),
    ];
  }

  /** Renders with every special token's text in messages and tools protected. */
  render(messages: readonly ChatMessage[], addGenerationPrompt: boolean): string {
    return this.#encoding.template.render(messages, {
      tools: this.#tools,
      addGenerationPrompt,
      mapText: this.#protection.protect,
    });
  }

  /** Ids of a rendered text; special tokens are those the template wrote. */
  encode(text: string): number[] {
    return joined(this.encodeInParts(text));
  }

  /** As encode, part by part. */
  *encodeInParts(text: string): TokenParts {
    const { tokenizer } = this.#encoding;
    const protection = this.#protection;
    if (!protection.isIn(text)) {
      yield* tokenizer.encodeInParts(text);
      return;
    }
    for (const part of text.split(anyOf(tokenizer.specialTokens))) {
      if (protection.isIn(part)) yield* tokenizer.encodePlainInParts(protection.restore(part));
      else yield* tokenizer.encodeInParts(part);
    }
  }

  /** Where each assistant message's turn begins in the text, behind the turn's head ("<|im_start|>assistant\n"). */
  #turnStarts(): Map<number, number> {
    const assistants = this.#messages.flatMap((message, index) =>
      message.role === "assistant" ? [index] : [],
    );
    if (assistants.length === 0) return new Map();
    const { head } = turnShape(this.#encoding);
    if (head !== null) {
      // Message texts are protected, so the head occurs once a turn and once at the end: no need to render each prefix.
      const ends = occurrences(this.text, head).map((at) => at + head.length);
      if (ends.length === assistants.length + 1)
        return new Map(assistants.map((index, k) => [index, ends[k] ?? 0]));
    }
    const starts = new Map<number, number>();
    for (const index of assistants) {
      const prefix = this.#tryRender(this.#messages.slice(0, index));
      if (prefix !== null && this.text.startsWith(prefix)) starts.set(index, prefix.length);
    }
    return starts;
  }

  #tryRender(messages: readonly ChatMessage[]): string | null {
    try {
      return this.render(messages, true);
    } catch (error) {
      // A template may refuse a conversation that stops here; then no prompt ends here and there is nothing to cut.
      if (error instanceof InvalidRequest) return null;
      throw error;
    }
  }
}

function occurrences(text: string, part: string): number[] {
  const found: number[] = [];
  for (let at = text.indexOf(part); at !== -1; at = text.indexOf(part, at + part.length)) found.push(at);
  return found;
}

/** Ids that end an answer: the model's own and the one the template writes behind an assistant's text. */
export function stopTokenIds(encoding: ChatEncoding): number[] {
  const { tokenizer } = encoding;
  const { end } = turnShape(encoding);
  const id = end === null ? undefined : tokenizer.tokenId(end);
  return [...new Set([...tokenizer.eosTokenIds, ...(id === undefined ? [] : [id])])];
}

/** What a template writes around an assistant's text in a running conversation, found by trying it out. */
interface TurnShape {
  /** What stands before it; null when the template cannot be tried or a message could spell the head. */
  head: string | null;
  /** The special token behind it; null when there is none. */
  end: string | null;
}

const turnShapes = new WeakMap<ChatTemplate, TurnShape>();

function turnShape({ template, tokenizer }: ChatEncoding): TurnShape {
  const known = turnShapes.get(template);
  if (known !== undefined) return known;
  const shape = probeTurnShape(template, tokenizer.specialTokens);
  turnShapes.set(template, shape);
  return shape;
}

function probeTurnShape(template: ChatTemplate, specialTokens: readonly string[]): TurnShape {
  const unknown: TurnShape = { head: null, end: null };
  if (specialTokens.length === 0) return unknown;
  // A character no template writes, so that the head ends exactly where the texts part.
  const probe = "\u{F8FF}";
  const user: ChatMessage = { role: "user", content: probe };
  const assistant: ChatMessage = { role: "assistant", content: probe };
  try {
    const before = template.render([user], { addGenerationPrompt: false });
    const prompt = template.render([user], { addGenerationPrompt: true });
    const whole = template.render([user, assistant, user], { addGenerationPrompt: false });
    if (!prompt.startsWith(before) || !whole.startsWith(before)) return unknown;
    const textAt = whole.indexOf(probe, before.length);
    if (textAt === -1) return unknown;
    const head = whole.slice(before.length, textAt);
    const isHead = prompt.startsWith(before + head) && specialTokens.some((token) => head.includes(token));
    const closed = template.render([user, assistant], { addGenerationPrompt: false });
    const behind = closed.slice(closed.lastIndexOf(probe));
    return { head: isHead ? head : null, end: anyOf(specialTokens).exec(behind)?.[0] ?? null };
  } catch (error) {
    if (error instanceof InvalidRequest) return unknown;
    throw error;
  }
}

/** Hides special tokens' texts behind stand-ins while a template is rendered. */
interface SpecialTextProtection {
  protect: (text: string) => string;
  restore: (text: string) => string;
  isIn: (text: string) => boolean;
}

const protections = new WeakMap<Tokenizer, SpecialTextProtection>();

function protectionFor(tokenizer: Tokenizer): SpecialTextProtection {
  const known = protections.get(tokenizer);
  if (known !== undefined) return known;
  const made = createProtection(tokenizer.specialTokens);
  protections.set(tokenizer, made);
  return made;
}

function createProtection(specialTokens: readonly string[]): SpecialTextProtection {
  if (specialTokens.length === 0)
    return { protect: (text) => text, restore: (text) => text, isIn: () => false };
  // A private-use character with a random number: no text can contain a stand-in but by a guess of one in 2^47.
  const mark = `\u{F0000}${randomInt(2 ** 47)}\u{F0001}`;
  const special = new RegExp(anyOf(specialTokens), "g");
  const standIn = new RegExp(`${mark}(\\d+)\u{F0001}`, "gu");
  return {
    protect: (text) => text.replace(special, (token) => `${mark}${specialTokens.indexOf(token)}\u{F0001}`),
    restore: (text) => text.replace(standIn, (_, index: string) => specialTokens[Number(index)] ?? ""),
    isIn: (text) => text.includes(mark),
  };
}
