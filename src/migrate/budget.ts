// Money that answers of OpenAI's models cost: what a request can cost at worst, and a cap that is kept because the worst case is put aside
// before a request is sent. Of a request whose end nobody knows, the worst case counts as spent.
import { InvalidRequest } from "../errors.ts";
import { OPENAI_ANSWER_PRICES, OPENAI_PRICES_FROM, type AnswerPrice } from "../wire/openai-prices.ts";
import type { PromptRequest } from "./prompts.ts";
import { baseOf } from "./shutdown-dates.ts";

export interface Price extends AnswerPrice {
  source: string;
}

/** Tokens around a message and around all of them, more than any of OpenAI's templates writes. */
const MESSAGE_OVERHEAD_TOKENS = 16;
const REQUEST_OVERHEAD_TOKENS = 64;
/** Tools and schemas are written out for the model in a form that OpenAI does not publish: twice their JSON bounds it. */
const TOOL_FACTOR = 2;
/** Characters of a token of English text, for the estimate; nothing relies on it. */
const CHARACTERS_PER_TOKEN = 4;
/** Answers are seldom as long as they may be; for the estimate. */
const EXPECTED_ANSWER_SHARE = 0.25;

/** Throws InvalidRequest for a model whose price nobody knows. */
export function priceOf(model: string, given: { input: number | null; output: number | null }): Price {
  for (const [name, value] of Object.entries(given))
    if (value !== null && !(value >= 0))
      throw new InvalidRequest(`--price-${name}: expected US dollars from 0, found ${value}.`);
  const known = OPENAI_ANSWER_PRICES[baseOf(model) ?? ""];
  const input = given.input ?? known?.input;
  const output = given.output ?? known?.output;
  if (input === undefined || output === undefined)
    throw new InvalidRequest(
      `What ${model} costs is not known: give US dollars for a million tokens, as OpenAI's price page has them, with --price-input and --price-output.`,
    );
  const source = given.input !== null && given.output !== null ? "given by you" : OPENAI_PRICES_FROM;
  return { input, output, source };
}

/** No tokenizer of OpenAI's makes more tokens of a text than it has bytes. */
export function worstCost(
  { messages, max_completion_tokens: most, tools, response_format }: PromptRequest,
  price: Price,
): number {
  let tokens = REQUEST_OVERHEAD_TOKENS;
  for (const message of messages)
    tokens += MESSAGE_OVERHEAD_TOKENS + Buffer.byteLength(JSON.stringify(message));
  for (const written of [tools, response_format])
    if (written !== undefined) tokens += TOOL_FACTOR * Buffer.byteLength(JSON.stringify(written));
  return costOf({ prompt_tokens: tokens, completion_tokens: most }, price);
}

/** An order of magnitude. */
export function likelyCost(
  { messages, max_completion_tokens: most, tools }: PromptRequest,
  price: Price,
): number {
  const characters =
    JSON.stringify(messages).length + (tools === undefined ? 0 : JSON.stringify(tools).length);
  return costOf(
    { prompt_tokens: characters / CHARACTERS_PER_TOKEN, completion_tokens: most * EXPECTED_ANSWER_SHARE },
    price,
  );
}

export function costOf(
  usage: { prompt_tokens: number; completion_tokens: number },
  price: AnswerPrice,
): number {
  return (usage.prompt_tokens * price.input + usage.completion_tokens * price.output) / 1_000_000;
}

export class Budget {
  readonly cap: number;
  #spent: number;
  #reserved = 0;

  constructor(cap: number, spent: number) {
    this.cap = cap;
    this.#spent = spent;
  }

  /** What is known to be spent, and what may have been. */
  get spent(): number {
    return this.#spent;
  }

  /** Puts the worst case aside; false where that would go beyond the cap, and then nothing is. */
  reserve(worst: number): boolean {
    if (this.#spent + this.#reserved + worst > this.cap) return false;
    this.#reserved += worst;
    return true;
  }

  /** The request has ended: it cost this in place of what was put aside. */
  settle(worst: number, cost: number): void {
    this.#reserved -= worst;
    this.#spent += cost;
  }

  /** Whether requests in flight hold what might be given back. */
  get isHeld(): boolean {
    return this.#reserved > RESERVED_DUST;
  }
}

/** Sums of dollars are floating-point: less than this is nothing. */
const RESERVED_DUST = 1e-9;
