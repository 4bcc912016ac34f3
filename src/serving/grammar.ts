// Answers that cannot come out in another form: compiles JSON schemas and tool calls into grammars over a model's tokens, and
// masks the logits of every token that a grammar does not allow next. It knows neither wire names nor sampling.
import type * as XGrammar from "@mlc-ai/web-xgrammar";
import type { ToolCallShape } from "../data/tool-calls.ts";
import { spellBytes } from "../data/tokenizer.ts";
import type { Tokenizer } from "../data/tokenizer.ts";
import { InvalidRequest } from "../errors.ts";
import { loadGrammarEngine } from "./xgrammar.ts";
import type { GrammarEngine } from "./xgrammar.ts";

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
      /** What an answer without calls is held to, where it may be one; left out: any text, between calls too. */
      otherwise?: JsonForm;
    };

type JsonForm =
  /** Any JSON object. */
  { type: "json_object" } | { type: "json_schema"; schema: Record<string, unknown> };

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

/** White space in a row between two parts of JSON: enough to indent, not enough to fill an answer with. */
const MAX_WHITESPACE = 16;

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
      const isTools = form.type === "tools";
      // Beside tools, the schema of the answer was compiled first, and alone.
      const param = isTools && !(error instanceof JsonFormFault) ? "tools" : "response_format";
      throw new InvalidRequest(
        `Invalid schema for '${param}': the grammar engine cannot hold answers to it. Write it with fewer or simpler keywords.`,
        {
          code: param === "tools" ? "invalid_function_parameters" : "invalid_json_schema",
          param,
          cause: error,
        },
      );
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

const ANY_OBJECT = { type: "object" };

async function compile(
  form: AnswerForm,
  { Grammar }: GrammarEngine,
  compiler: XGrammar.GrammarCompiler,
): Promise<XGrammar.CompiledGrammar> {
  const grammarOf = (schema: Record<string, unknown>): Promise<XGrammar.Grammar> =>
    Grammar.fromJSONSchema(JSON.stringify(schema), true, undefined, undefined, false, MAX_WHITESPACE);
  const jsonGrammar = (json: JsonForm): Promise<XGrammar.Grammar> =>
    grammarOf(json.type === "json_schema" ? json.schema : ANY_OBJECT);
  if (form.type !== "tools") {
    const grammar = await jsonGrammar(form);
    try {
      return await compiler.compileGrammar(grammar);
    } finally {
      grammar.dispose();
    }
  }
  const { shape, forced, parallel, otherwise } = form;
  let json: string | null = null;
  if (otherwise !== undefined) {
    const grammar = await jsonGrammar(otherwise).catch((error: unknown) => {
      throw new JsonFormFault("internal: the schema beside tools", { cause: error });
    });
    json = grammar.toString();
    grammar.dispose();
  }
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
  const calls: XGrammar.StructuralTagFormat = {
    type: "tags_with_separator",
    tags,
    separator: "\n",
    ...stop,
    at_least_one: true,
  };
  const asTag = (format: XGrammar.StructuralTagFormat) => ({ type: "structural_tag", format }) as const;
  if (forced) return compiler.compileStructuralTag(asTag(calls));
  if (json === null) {
    return compiler.compileStructuralTag(
      asTag({ type: "triggered_tags", triggers: [shape.trigger], tags, ...stop }),
    );
  }
  // As a grammar of their own: a list of tags, which may go on for ever, cannot be one of several choices.
  const callsGrammar = await Grammar.fromStructuralTag(asTag(calls));
  const either = [withRootNamed(callsGrammar.toString()), json].map(
    (grammar) => ({ type: "grammar", grammar }) as const,
  );
  callsGrammar.dispose();
  return compiler.compileStructuralTag(asTag({ type: "or", elements: either }));
}

/**
 * A grammar's text with its last rule, which is where it begins, named "root": by that name a grammar within another is entered,
 * and in the text of one that was made of others it is the name of a part.
 */
function withRootNamed(text: string): string {
  const last = [...text.matchAll(/^(\w+) ::=/gm)].at(-1)?.[1] ?? "root";
  if (last === "root") return text;
  // Quoted texts and classes of characters are passed over.
  return text.replaceAll(/"(?:[^"\\]|\\.)*"|\[(?:[^\]\\]|\\.)*\]|\w+/g, (part) =>
    part === last ? "root" : part === "root" ? `${last}_part` : part,
  );
}

/** The grammar engine does not take what an answer without calls is to be held to. */
class JsonFormFault extends Error {}

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
