// Answers that cannot come out in another form: compiles JSON schemas and tool calls into grammars over a model's tokens, and
// masks the logits of every token that a grammar does not allow next. It knows neither wire names nor sampling.
import type * as XGrammar from "@mlc-ai/web-xgrammar";
import type { ToolCallShape } from "../data/tool-calls.ts";
import { spellBytes } from "../data/tokenizer.ts";
import type { Tokenizer } from "../data/tokenizer.ts";
import { InvalidRequest } from "../errors.ts";
import { loadGrammarEngine } from "./xgrammar.ts";
import type { GrammarEngine } from "./xgrammar.ts";

/** JSON that an answer must be. */
export type JsonForm =
  /** Any JSON object. */
  { type: "json_object" } | { type: "json_schema"; schema: Record<string, unknown> };

/** What an answer must be. */
export type AnswerForm =
  | JsonForm
  | {
      type: "tools";
      shape: ToolCallShape;
      /** Functions that may be called, each with its arguments' schema. */
      tools: readonly { name: string; parameters: Record<string, unknown> }[];
      /** Nothing but calls, and at least one. */
      forced: boolean;
      /** Whether more than one call may be made. */
      parallel: boolean;
      /** What an answer that calls nothing must be; null: any text. */
      otherwise: JsonForm | null;
    };

/** One answer's way through its grammar. */
export interface GrammarRule {
  /** Forbids in place, by -Infinity, every token that may not come next. `logits` [V]. */
  apply(logits: Float32Array): void;
  accept(token: number): void;
  /** Frees its memory; from then on nothing is forbidden. */
  dispose(): void;
}

/** Compiled grammars kept per base model, a few hundred KB each: clients send the same few schemas again and again. */
const MAX_GRAMMARS = 32;

/** White space in a row between two parts of any JSON object: enough to indent, not enough to fill an answer with. */
const MAX_WHITESPACE = 16;

/** The same where there is a schema, and in arguments: compact JSON and that of ", " and ": " are both in, wasted tokens are not. */
const MAX_SCHEMA_WHITESPACE = 1;

export interface GrammarVocabulary {
  tokenizer: Tokenizer;
  /** Logits a model gives: at least as many as the tokenizer has tokens. */
  vocabSize: number;
  stopIds: ReadonlySet<number>;
}

interface LoadedEngine {
  engine: GrammarEngine;
  compiler: XGrammar.GrammarCompiler;
}

export class GrammarPool {
  readonly #vocabulary: GrammarVocabulary;
  #loading: Promise<LoadedEngine> | null = null;
  /** By form, the least recently used first. */
  readonly #grammars = new Map<string, Promise<XGrammar.CompiledGrammar>>();

  constructor(vocabulary: GrammarVocabulary) {
    this.#vocabulary = vocabulary;
  }

  /** Throws InvalidRequest when the form is beyond the grammar engine. The caller disposes the rules. */
  async rules(form: AnswerForm, count: number): Promise<GrammarRule[]> {
    const loading = (this.#loading ??= load(this.#vocabulary));
    const forgetEngine = (): void => {
      if (this.#loading !== loading) return;
      this.#loading = null;
      this.#grammars.clear();
    };
    const { engine, compiler } = await loading.catch((error: unknown) => {
      forgetEngine();
      throw error;
    });
    let compiled: XGrammar.CompiledGrammar;
    try {
      compiled = await this.#compiled(form, engine, compiler);
    } catch (error) {
      // The engine ends itself on a schema it cannot take; the next request gets a new one.
      forgetEngine();
      throw error instanceof InvalidRequest
        ? error
        : refusal(form.type === "tools" ? "tools" : "response_format", error);
    }
    const rules: GrammarRule[] = [];
    for (let i = 0; i < count; i++) {
      rules.push(createRule(await engine.GrammarMatcher.createGrammarMatcher(compiled)));
    }
    return rules;
  }

  #compiled(
    form: AnswerForm,
    engine: GrammarEngine,
    compiler: XGrammar.GrammarCompiler,
  ): Promise<XGrammar.CompiledGrammar> {
    const key = JSON.stringify(form);
    const found = this.#grammars.get(key) ?? compile(form, engine, compiler);
    this.#grammars.delete(key);
    this.#grammars.set(key, found);
    const [oldest] = this.#grammars;
    if (this.#grammars.size > MAX_GRAMMARS && oldest !== undefined) {
      this.#grammars.delete(oldest[0]);
      // Rules in use share what it holds.
      void oldest[1].then(
        (grammar) => grammar.dispose(),
        () => undefined,
      );
    }
    return found;
  }
}

async function load({ tokenizer, vocabSize, stopIds }: GrammarVocabulary): Promise<LoadedEngine> {
  const engine = await loadGrammarEngine();
  // Control tokens are given no text: else a text value could be written with one.
  const spellings = Array.from({ length: Math.max(vocabSize, tokenizer.vocabSize) }, (_, id) =>
    tokenizer.isSpecial(id) ? "" : spellBytes(tokenizer.tokenBytes(id)),
  );
  const info = await engine.TokenizerInfo.createTokenizerInfo(spellings, "byte_level", false, vocabSize, [
    ...stopIds,
  ]);
  // Its own cache has no bound.
  return { engine, compiler: await engine.GrammarCompiler.createGrammarCompiler(info, false) };
}

function refusal(param: "tools" | "response_format", cause: unknown): InvalidRequest {
  return new InvalidRequest(
    `Invalid schema for '${param}': the grammar engine cannot hold answers to it. Write it with fewer or simpler keywords.`,
    { code: param === "tools" ? "invalid_function_parameters" : "invalid_json_schema", param, cause },
  );
}

/** A character of a text with a length, as the engine writes it: control characters are let in, which JSON forbids. */
const LOOSE_CHARACTER = String.raw`[^\"\\\r\n]`;
const TEXT_CHARACTER = String.raw`[^\0-\x1f\"\\\r\n]`;

const ANY_OBJECT = { type: "object" };

async function compile(
  form: AnswerForm,
  { Grammar }: GrammarEngine,
  compiler: XGrammar.GrammarCompiler,
): Promise<XGrammar.CompiledGrammar> {
  const grammarOf = async (
    schema: Record<string, unknown>,
    whitespace = MAX_SCHEMA_WHITESPACE,
  ): Promise<XGrammar.Grammar> => {
    const json = JSON.stringify(schema);
    const grammar = await Grammar.fromJSONSchema(json, true, undefined, undefined, false, whitespace);
    const text = grammar.toString();
    if (!text.includes(LOOSE_CHARACTER)) return grammar;
    grammar.dispose();
    return Grammar.fromEBNF(text.replaceAll(LOOSE_CHARACTER, TEXT_CHARACTER));
  };
  const jsonGrammar = (json: JsonForm): Promise<XGrammar.Grammar> =>
    json.type === "json_schema" ? grammarOf(json.schema) : grammarOf(ANY_OBJECT, MAX_WHITESPACE);
  if (form.type !== "tools") {
    const grammar = await jsonGrammar(form);
    try {
      return await compiler.compileGrammar(grammar);
    } finally {
      grammar.dispose();
    }
  }
  const { shape, forced, parallel, otherwise } = form;
  const tags: XGrammar.TagFormat[] = [];
  for (const { name, parameters } of form.tools) {
    const grammar = await grammarOf(parameters);
    tags.push({
      type: "tag",
      begin: shape.begin + name + shape.middle,
      content: { type: "grammar", grammar: grammar.toString() },
      end: shape.end,
    });
    grammar.dispose();
  }
  const stop = { at_least_one: forced, stop_after_first: !parallel };
  let format: XGrammar.StructuralTagFormat;
  if (forced) format = { type: "tags_with_separator", tags, separator: "\n", ...stop };
  else if (otherwise === null) format = { type: "triggered_tags", triggers: [shape.trigger], tags, ...stop };
  else {
    const grammar = await jsonGrammar(otherwise).catch((error: unknown) => {
      throw refusal("response_format", error);
    });
    const json: XGrammar.StructuralTagFormat = { type: "grammar", grammar: grammar.toString() };
    format = { type: "or", elements: [json, ...(parallel ? callList(tags, shape) : tags)] };
    grammar.dispose();
  }
  return compiler.compileStructuralTag({ type: "structural_tag", format });
}

/**
 * One or more calls as a part of a choice. There the engine takes a list only between two texts, so the first character of
 * the first call and the last one of the last call stand around it.
 */
function callList(tags: readonly XGrammar.TagFormat[], { begin, end }: ToolCallShape): XGrammar.TagFormat[] {
  const [head = ""] = begin;
  const tail = [...end].at(-1);
  if (tail === undefined) return [...tags];
  const inner = tags.map((tag) => ({
    ...tag,
    begin: tag.begin.slice(head.length),
    end: end.slice(0, -tail.length),
  }));
  const list: XGrammar.TagsWithSeparatorFormat = {
    type: "tags_with_separator",
    tags: inner,
    separator: `${tail}\n${head}`,
    at_least_one: true,
    stop_after_first: false,
  };
  return [{ type: "tag", begin: head, content: list, end: tail }];
}

/** The matcher's own mask comes through a promise only; what lies under it gives it at once. */
interface RawMatcher {
  GetNextTokenBitmask(vocabSize: number): { size(): number; get(index: number): number; delete(): void };
}

function createRule(matcher: XGrammar.GrammarMatcher): GrammarRule {
  const { handle } = matcher as unknown as { handle: RawMatcher };
  let isDisposed = false;
  return {
    apply(logits) {
      if (isDisposed) return;
      const mask = handle.GetNextTokenBitmask(logits.length);
      const words = mask.size();
      for (let word = 0; word < words; word++) {
        const bits = mask.get(word);
        if (bits === -1) continue;
        const start = word * 32;
        if (bits === 0) logits.fill(-Infinity, start, start + 32);
        else {
          const count = Math.min(32, logits.length - start);
          for (let bit = 0; bit < count; bit++)
            if (((bits >>> bit) & 1) === 0) logits[start + bit] = -Infinity;
        }
      }
      mask.delete();
    },
    accept(token) {
      if (isDisposed) return;
      if (!matcher.isTerminated() && !matcher.acceptToken(token)) {
        throw new Error(`internal: the grammar refuses token ${token}, which it allowed`);
      }
    },
    dispose() {
      if (!isDisposed) matcher.dispose();
      isDisposed = true;
    },
  };
}
