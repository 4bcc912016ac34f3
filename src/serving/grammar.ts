// Answers that cannot come out in another form: follows each answer through the grammar of its form, and masks the logits of
// every token that the grammar does not allow next. It knows neither wire names nor sampling.
import type { Tokenizer } from "../data/tokenizer.ts";
import { DEAD, Matcher } from "../grammar/matcher.ts";
import { answerProgram } from "./answer-form.ts";
import type { AnswerForm } from "./answer-form.ts";
import { createTokenTrie } from "./token-trie.ts";
import type { TokenTrie } from "./token-trie.ts";

/** One answer's way through its grammar. */
export interface GrammarRule {
  /** Forbids in place, by -Infinity, every token that may not come next. `logits` [V]. */
  apply(logits: Float32Array): void;
  accept(token: number): void;
}

/** Grammars kept per base model: clients send the same few schemas again and again. */
const MAX_GRAMMARS = 32;

/**
 * What a grammar remembers of the ways that were gone, of about 200 bytes each; with more it starts afresh, the answers that are
 * under way included. One way through a schema takes some thousands.
 */
const MAX_GRAMMAR_MEMORY = 65_536;

/** Masks that a grammar remembers, of a bit for each token: 6 KB each at 49,152 tokens. */
const MAX_GRAMMAR_MASKS = 64;

export interface GrammarVocabulary {
  tokenizer: Tokenizer;
  /** Logits a model gives: at least as many as the tokenizer has tokens. */
  vocabSize: number;
  stopIds: ReadonlySet<number>;
}

export class GrammarPool {
  readonly #vocabulary: GrammarVocabulary;
  #trie: TokenTrie | null = null;
  /** By form, the least recently used first. */
  readonly #grammars = new Map<string, Grammar>();

  constructor(vocabulary: GrammarVocabulary) {
    this.#vocabulary = vocabulary;
  }

  rules(form: AnswerForm, count: number): GrammarRule[] {
    const grammar = this.#grammar(form);
    return Array.from({ length: count }, () => grammar.rule());
  }

  #grammar(form: AnswerForm): Grammar {
    this.#trie ??= textTokens(this.#vocabulary);
    const key = JSON.stringify(form);
    const grammar = this.#grammars.get(key) ?? new Grammar(form, this.#trie, this.#vocabulary);
    this.#grammars.delete(key);
    this.#grammars.set(key, grammar);
    const [oldest] = this.#grammars.keys();
    if (this.#grammars.size > MAX_GRAMMARS && oldest !== undefined) this.#grammars.delete(oldest);
    return grammar;
  }
}

/** Tokens that end an answer and control tokens are no text: else a text value could be written with one. */
function textTokens({ tokenizer, vocabSize, stopIds }: GrammarVocabulary): TokenTrie {
  const bytes = Array.from({ length: tokenizer.vocabSize }, (_, id) =>
    tokenizer.isSpecial(id) || stopIds.has(id) ? NO_BYTES : tokenizer.tokenBytes(id),
  );
  return createTokenTrie(bytes, vocabSize);
}

const NO_BYTES = new Uint8Array(0);

/** One form's grammar with what was found out about it, shared by all answers of the form. */
class Grammar {
  readonly #trie: TokenTrie;
  readonly #vocabulary: GrammarVocabulary;
  #matcher: Matcher;
  #mostMemory = MAX_GRAMMAR_MEMORY;
  /** By state, the least recently used first. */
  #masks = new Map<number, Int32Array>();

  constructor(form: AnswerForm, trie: TokenTrie, vocabulary: GrammarVocabulary) {
    this.#trie = trie;
    this.#vocabulary = vocabulary;
    this.#matcher = new Matcher(answerProgram(form), trie.longestBytes);
  }

  rule(): GrammarRule {
    const { tokenizer, stopIds } = this.#vocabulary;
    let matcher = this.#matcher;
    let state = matcher.start;
    /** Into the matcher that is in use: this one's may have grown too large. */
    const moveOn = (): void => {
      const isFull = this.#matcher.size > this.#mostMemory;
      if (isFull) {
        this.#matcher = this.#matcher.emptied();
        this.#masks = new Map();
      }
      if (matcher === this.#matcher) return;
      state = this.#matcher.adopt(state, { of: matcher });
      matcher = this.#matcher;
      // Deep in arrays within arrays, where the answer is takes most of it.
      if (isFull) this.#mostMemory = MAX_GRAMMAR_MEMORY + matcher.size;
    };
    return {
      apply: (logits) => {
        moveOn();
        forbid(logits, this.#mask(state));
      },
      accept: (token) => {
        if (stopIds.has(token)) return;
        for (const byte of tokenizer.tokenBytes(token)) state = matcher.step(state, byte);
        if (state === DEAD) throw new Error(`internal: the grammar refuses token ${token}, which it allowed`);
      },
    };
  }

  /** Of the tokens that may come next in a state of the matcher in use. */
  #mask(state: number): Int32Array {
    const like = this.#matcher.like(state);
    const mask = this.#masks.get(like) ?? this.#trie.allowed(this.#matcher, like);
    this.#masks.delete(like);
    if (this.#matcher.isEnd(like)) {
      for (const id of this.#vocabulary.stopIds) mask[id >> 5] = (mask[id >> 5] ?? 0) | (1 << (id & 31));
    }
    this.#masks.set(like, mask);
    const [oldest] = this.#masks.keys();
    if (this.#masks.size > MAX_GRAMMAR_MASKS && oldest !== undefined) this.#masks.delete(oldest);
    return mask;
  }
}

function forbid(logits: Float32Array, mask: Int32Array): void {
  for (const [word, bits] of mask.entries()) {
    if (bits === -1) continue;
    const start = word * 32;
    if (bits === 0) {
      logits.fill(-Infinity, start, start + 32);
      continue;
    }
    const count = Math.min(32, logits.length - start);
    for (let bit = 0; bit < count; bit++) if (((bits >>> bit) & 1) === 0) logits[start + bit] = -Infinity;
  }
}
