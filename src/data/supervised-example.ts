// One training example: a conversation's token ids and which of them the loss counts. The law it keeps: for every
// supervised assistant turn, the ids of the prompt that serving would make stand before the turn's supervised ids.
// It knows no batches and no files.
import { InvalidRequest, UnsupportedModel } from "../errors.ts";
import type { ChatMessage, ToolDefinition } from "./chat-message.ts";
import { RenderedConversation, stopTokenIds } from "./prompt.ts";
import type { ChatEncoding } from "./prompt.ts";
import { anyOf } from "./tokenizer.ts";

export interface EncodeOptions extends ChatEncoding {
  /** Tokens; what is longer is cut at its end. */
  maxLength: number;
}

export interface SupervisedExample {
  tokens: Int32Array;
  /** 1 where the token is an assistant's text or end token that counts for the loss, else 0; as long as `tokens`. */
  supervised: Uint8Array;
  /** How many tokens were cut off. */
  truncatedTokens: number;
  /** How many ones `supervised` has; 0 when all were cut off, and then the example teaches nothing. */
  supervisedTokens: number;
}

/**
 * Encodes a conversation up to the end token of its last supervised assistant message; what follows cannot move the loss.
 *
 * The last supervised turn follows exactly the prompt serving makes. Templates that show an earlier turn otherwise than
 * the prompt it answered (Qwen3 leaves out earlier turns' thinking) are followed as they are: an earlier turn is supervised
 * as the later prompt shows it, so the prefix law then holds for the last turn only.
 *
 * Throws InvalidRequest when the template cannot show the messages or no assistant message is supervised, and
 * UnsupportedModel when the template marks no end of a turn.
 */
export function encodeExample(
  messages: readonly ChatMessage[],
  tools: readonly ToolDefinition[] | undefined,
  { tokenizer, template, maxLength }: EncodeOptions,
): SupervisedExample {
  const last = messages.findLastIndex(isSupervised);
  if (last === -1) {
    throw new InvalidRequest(
      "The conversation has no assistant message to train on: each is missing or has weight 0.",
      { param: "messages" },
    );
  }
  const encoding = { tokenizer, template };
  const conversation = new RenderedConversation(messages.slice(0, last), tools, encoding, messages[last]);
  const endOf = endFinder(encoding);
  const tokens: number[] = [];
  const supervised: number[] = [];
  const append = (text: string, counts: 0 | 1) => {
    for (const id of conversation.encode(text)) {
      tokens.push(id);
      supervised.push(counts);
    }
  };

  const cut = new Set(conversation.pieces.map((piece) => piece.turnOf));
  const unmarked = messages.findIndex(
    (message, index) => index < last && isSupervised(message) && !cut.has(index),
  );
  if (unmarked !== -1) {
    throw new InvalidRequest(
      `Message ${unmarked + 1}: the model's chat template does not show where this assistant message begins. Give it weight 0, or use another base model.`,
      { param: `messages[${unmarked}]` },
    );
  }
  for (const { text, turnOf } of conversation.pieces) {
    const message = turnOf === null ? undefined : messages[turnOf];
    const end = message !== undefined && isSupervised(message) ? endOf(text) : 0;
    append(text.slice(0, end), 1);
    append(text.slice(end), 0);
  }
  const answer = answerText(conversation, messages, last);
  append(answer.slice(0, endOf(answer)), 1);

  const kept = Math.min(tokens.length, maxLength);
  const mask = Uint8Array.from(supervised.slice(0, kept));
  return {
    tokens: Int32Array.from(tokens.slice(0, kept)),
    supervised: mask,
    truncatedTokens: tokens.length - kept,
    supervisedTokens: mask.reduce((sum, one) => sum + one, 0),
  };
}

function isSupervised(message: ChatMessage): boolean {
  return message.role === "assistant" && message.weight !== 0;
}

/** What the template writes for the last turn behind the prompt. */
function answerText(
  conversation: RenderedConversation,
  messages: readonly ChatMessage[],
  last: number,
): string {
  const whole = conversation.render(messages.slice(0, last + 1), false);
  if (!whole.startsWith(conversation.text)) {
    throw new InvalidRequest(
      `Message ${last + 1}: the model's chat template shows this assistant message otherwise than as the continuation of its prompt, so it cannot be trained as it would be served. Take reasoning text ("<think>…") out of the message, or use another base model.`,
      { param: `messages[${last}]` },
    );
  }
  return whole.slice(conversation.text.length);
}

/**
 * Finds where an assistant's turn ends in a text that begins with it: behind its first stop token, which only the template
 * can have written, since message texts are protected.
 */
function endFinder(encoding: ChatEncoding): (text: string) => number {
  const { tokenizer } = encoding;
  const stops = stopTokenIds(encoding).map((id) => tokenizer.decode([id]));
  const pattern = stops.length === 0 ? null : anyOf(stops);
  return (text) => {
    const match = pattern?.exec(text) ?? null;
    if (match === null) throw noEnd(stops);
    return match.index + match[0].length;
  };
}

function noEnd(stops: readonly string[]): UnsupportedModel {
  return new UnsupportedModel(
    `The model's chat template must end an assistant message with a stop token of the model (${stops.length === 0 ? "it has none" : stops.join(", ")}), or a trained model would not learn to stop. Use an instruct or chat variant of the model.`,
  );
}

/**
 * Tokens of one example as OpenAI bills an epoch: 1 + Σ messages (3 + role + content), all messages, masked or not.
 * A tool call counts as its function's name and arguments; a tool definition as its JSON text (OpenAI documents no
 * formula for either). Capped at `maxLength`, because what is cut off is not trained.
 */
export function trainedTokens(
  messages: readonly ChatMessage[],
  tools: readonly ToolDefinition[] | undefined,
  { tokenizer, maxLength }: Pick<EncodeOptions, "tokenizer" | "maxLength">,
): number {
  const count = (text: string) => tokenizer.encodePlain(text).length;
  let total = 1;
  for (const message of messages) {
    total += 3 + count(message.role) + count(message.content ?? "");
    for (const call of message.tool_calls ?? [])
      total += count(call.function.name) + count(call.function.arguments);
  }
  for (const tool of tools ?? []) total += count(JSON.stringify(tool));
  return Math.min(total, maxLength);
}
