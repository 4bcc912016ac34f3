// What a tokenizer.json says for SentencePiece's byte-pair models (Gemma) whose GGUF file has a score for each token instead of
// a list of merges. Merges as huggingface/transformers convert_slow_tokenizer.py (generate_merges) makes them of the same
// scores. Tokenizes nothing itself.
import { UnsupportedModel } from "../errors.ts";
import type { GgufValue } from "./gguf.ts";

/** ggml's token types. Control tokens are hidden in decoded text; user-defined ones are ordinary text kept whole. */
export const TOKEN_TYPE = { normal: 1, control: 3, userDefined: 4 } as const;

/** The members of a tokenizer.json that the kinds of tokenizers differ in. */
export interface TokenizerParts {
  normalizer: object | null;
  preTokenizer: object;
  decoder: object;
  /** Whole words of the vocabulary are taken without merging. */
  ignoreMerges: boolean;
  merges: [string, string][];
}

/** The tokens as a tokenizer.json spells them, and the rest. Throws UnsupportedModel where scores are missing. */
export function sentencePieceParts(
  fileTokens: readonly string[],
  { scores, types }: { scores: GgufValue | undefined; types: GgufValue | undefined },
  source: string,
): { tokens: string[]; parts: TokenizerParts } {
  if (!Array.isArray(scores) || scores.length !== fileTokens.length || !Array.isArray(types))
    throw new UnsupportedModel(
      `${source}: "tokenizer.ggml.scores" and "tokenizer.ggml.token_type" must list one number for each of the ${fileTokens.length} tokens. Get the file again.`,
      { code: "unsupported_model", param: "tokenizer.ggml.scores" },
    );
  // GGUF writes the space of a user-defined token as a space, the vocabulary as ▁.
  const tokens = fileTokens.map((token, id) =>
    types[id] === TOKEN_TYPE.userDefined ? token.replaceAll(" ", "▁") : token,
  );
  return {
    tokens,
    parts: {
      normalizer: { type: "Replace", pattern: { String: " " }, content: "▁" },
      preTokenizer: {
        type: "Split",
        pattern: { String: " " },
        behavior: "MergedWithPrevious",
        invert: false,
      },
      decoder: {
        type: "Sequence",
        decoders: [
          { type: "Replace", pattern: { String: "▁" }, content: " " },
          { type: "ByteFallback" },
          { type: "Fuse" },
        ],
      },
      ignoreMerges: false,
      merges: mergesOf(tokens, scores, types),
    },
  };
}

/**
 * All cuts of a token into two others, tokens of the highest score first. A user-defined token (a run of spaces) comes before
 * all others, whatever score the file gives it, because SentencePiece never takes one apart.
 */
function mergesOf(
  tokens: readonly string[],
  scores: readonly GgufValue[],
  types: readonly GgufValue[],
): [string, string][] {
  const isText = (id: number) => types[id] === TOKEN_TYPE.normal || types[id] === TOKEN_TYPE.userDefined;
  const ids = new Map(tokens.flatMap((token, id) => (isText(id) ? [[token, id] as const] : [])));
  const scoreOf = (id: number) => (types[id] === TOKEN_TYPE.userDefined ? 0 : Number(scores[id]));
  const merges: { pair: [string, string]; score: number }[] = [];
  for (const [token, id] of ids) {
    for (let cut = 1; cut < token.length; cut++) {
      const [left, right] = [token.slice(0, cut), token.slice(cut)];
      if (ids.has(left) && ids.has(right)) merges.push({ pair: [left, right], score: scoreOf(id) });
    }
  }
  const length = (text: string) => [...text].length;
  merges.sort(
    (a, b) =>
      b.score - a.score || length(b.pair[0]) - length(a.pair[0]) || length(b.pair[1]) - length(a.pair[1]),
  );
  return merges.map(({ pair }) => pair);
}
