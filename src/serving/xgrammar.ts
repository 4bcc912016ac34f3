// Loads the grammar engine, a WebAssembly module. Its package is a UMD file in a package that says it holds ES modules, so
// that neither import nor require gets its exports: the text is compiled as a CommonJS module here.
import { readFile } from "node:fs/promises";
import { createRequire, Module } from "node:module";
import type * as XGrammar from "@mlc-ai/web-xgrammar";

export type GrammarEngine = Pick<
  typeof XGrammar,
  "Grammar" | "GrammarCompiler" | "GrammarMatcher" | "TokenizerInfo"
>;

interface CompilableModule {
  exports: unknown;
  filename: string;
  _compile(text: string, filename: string): void;
}

/** A fresh engine with memory of its own: one that was aborted by an error must not be used again. */
export async function loadGrammarEngine(): Promise<GrammarEngine> {
  const path = createRequire(import.meta.url).resolve("@mlc-ai/web-xgrammar");
  const module = new Module(path) as unknown as CompilableModule;
  module.filename = path;
  module._compile(await readFile(path, "utf8"), path);
  return module.exports as GrammarEngine;
}
