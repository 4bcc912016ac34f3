// Who may import whom in src. Rooms are the folders of src, and the files directly in it by their names.
import { dirname, join } from "node:path/posix";
import { describe, expect, it } from "vitest";
import { isCheckout, projectFiles, readProjectFile, sourceFiles } from "./source-files.ts";

/** Rooms, or single files of rooms, that a room may import besides itself and errors. */
const ALLOWED: Readonly<Record<string, readonly string[]>> = {
  errors: [],
  random: [],
  steps: [],
  "package-program": [],
  "setting-values": [],
  config: ["setting-values"],
  grammar: [],
  wire: ["grammar"],
  graph: [],
  runtime: [],
  model: ["graph", "runtime/tensor.ts", "steps"],
  data: ["wire", "random", "steps"],
  store: ["wire"],
  training: ["model", "graph", "runtime", "data", "random", "package-program"],
  serving: ["model", "graph", "runtime", "data", "grammar", "random", "steps"],
  // Judges and embeddings are passed in, so that any model can be measured.
  evals: ["data", "model", "wire", "random"],
  jobs: ["store", "data", "training", "wire", "package-program"],
  // How models are run is passed in, so that an export can be measured without knowing any engine.
  export: ["data", "model", "wire"],
  // The servers it moves from and to are reached over HTTP; the one to move to is passed in.
  migrate: [
    "wire",
    "random",
    "evals/intervals.ts",
    "data/file-lines.ts",
    "model/atomic-write.ts",
    "model/file-hash.ts",
  ],
  api: ["wire", "store", "serving", "evals", "export/archive.ts", "data:types"],
  // The command line reads the settings (it is an entry of the process, as main is) and starts the server. An export's folder is
  // unpacked and checked where there is no server.
  cli: ["wire", "config", "main", "migrate", "export/archive.ts", "export/verify.ts"],
};

/** Packages only some rooms or files may import; Node's own modules and all others are free. */
const PACKAGE_OWNERS: Readonly<Record<string, RegExp>> = {
  "onnxruntime-node": /^src\/runtime\/session\.ts$/,
  fastify: /^src\/(api\/|main\.ts$|main\/)/,
  "@fastify/multipart": /^src\/api\//,
  kysely: /^src\/store\//,
  libsql: /^src\/store\//,
  commander: /^src\/cli\//,
  "cli-progress": /^src\/cli\//,
  "modern-tar": /^src\/export\/archive\.ts$/,
  "@huggingface/tokenizers": /^src\/data\//,
  "@huggingface/jinja": /^src\/data\//,
};

interface Import {
  from: string;
  specifier: string;
  /** The path of the imported file; null for a package. */
  target: string | null;
  typeOnly: boolean;
}

const IMPORT =
  /^(?:import|export)\s+(type\s)?(?:[^"';]*?\sfrom\s+)?["']([^"']+)["']|\bimport\(\s*["']([^"']+)["']\s*\)/gm;

function importsOf(from: string, text: string): Import[] {
  return [...text.matchAll(IMPORT)].map(([, type, named, dynamic]) => {
    const specifier = named ?? dynamic ?? "";
    const target = specifier.startsWith(".") ? join(dirname(from), specifier) : null;
    return { from, specifier, target, typeOnly: type !== undefined };
  });
}

function roomOf(path: string): string {
  const [, first = ""] = path.split("/");
  return first.replace(/\.ts$/, "");
}

/** Why an import is not allowed, or null. */
function judge({ from, target, specifier, typeOnly }: Import): string | null {
  if (target === null) {
    const name = specifier
      .split("/")
      .slice(0, specifier.startsWith("@") ? 2 : 1)
      .join("/");
    const owner = PACKAGE_OWNERS[name];
    return owner === undefined || owner.test(from) ? null : `${from} imports the package ${name}`;
  }
  const room = roomOf(from);
  const other = roomOf(target);
  if (room === other || other === "errors" || room === "main") return null;
  const allowed = ALLOWED[room];
  if (allowed === undefined) return `${from} is in a room that test/house/imports.test.ts does not know`;
  const isAllowed =
    allowed.includes(other) ||
    allowed.includes(target.replace(/^src\//, "")) ||
    (typeOnly && allowed.includes(`${other}:types`));
  return isAllowed ? null : `${from} imports ${target}`;
}

/** Circles of files that import each other, each as a path from file to file. */
function cycles(imports: readonly Import[]): string[] {
  const edges = new Map<string, string[]>();
  for (const { from, target } of imports) {
    if (target !== null) edges.set(from, [...(edges.get(from) ?? []), target]);
  }
  const found: string[] = [];
  const done = new Set<string>();
  const walk = (file: string, path: string[]): void => {
    if (path.includes(file)) found.push([...path.slice(path.indexOf(file)), file].join(" → "));
    else if (!done.has(file)) {
      for (const next of edges.get(file) ?? []) walk(next, [...path, file]);
      done.add(file);
    }
  };
  for (const file of edges.keys()) walk(file, []);
  return found;
}

describe.skipIf(!isCheckout())("imports", () => {
  const files = sourceFiles(projectFiles({ untracked: true }));
  const imports = files.flatMap((path) => importsOf(path, readProjectFile(path)));

  it("follow the table of rooms and packages", () => {
    expect(imports.map(judge).filter((complaint) => complaint !== null)).toEqual([]);
  });

  it("name files that exist, by their .ts names", () => {
    const missing = imports.filter(({ target }) => target !== null && !files.includes(target));
    expect(missing.map(({ from, specifier }) => `${from}: ${specifier}`)).toEqual([]);
  });

  it("go in no circles", () => {
    expect(cycles(imports)).toEqual([]);
  });

  it("need no barrels", () => {
    expect(files.filter((path) => path.endsWith("/index.ts"))).toEqual([]);
  });

  it("process.env is read in config.ts only", () => {
    const readers = files.filter((path) =>
      /\bprocess\s*(\.\s*env|\[["']env["']\])\b/.test(code(readProjectFile(path))),
    );
    expect(readers.filter((path) => path !== "src/config.ts")).toEqual([]);
  });
});

/** Without comments, which may speak of anything. */
function code(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\/|(?<!:)\/\/.*$/gm, "");
}

describe("the rules themselves", () => {
  const complaint = (from: string, line: string) => importsOf(from, line).map(judge);

  it.each([
    [
      "src/graph/ops.ts",
      'import { a } from "../model/decoder.ts";',
      "src/graph/ops.ts imports src/model/decoder.ts",
    ],
    [
      "src/model/lora.ts",
      'import type { A } from "../runtime/session.ts";',
      "src/model/lora.ts imports src/runtime/session.ts",
    ],
    [
      "src/training/a.ts",
      'import {\n  b,\n} from "../serving/b.ts";',
      "src/training/a.ts imports src/serving/b.ts",
    ],
    [
      "src/api/chat.ts",
      'import { a } from "../data/dataset.ts";',
      "src/api/chat.ts imports src/data/dataset.ts",
    ],
    ["src/api/jobs.ts", 'import "../jobs/worker.ts";', "src/api/jobs.ts imports src/jobs/worker.ts"],
    ["src/evals/a.ts", 'import { b } from "../serving/b.ts";', "src/evals/a.ts imports src/serving/b.ts"],
    ["src/data/a.ts", 'export { b } from "../store/b.ts";', "src/data/a.ts imports src/store/b.ts"],
    [
      "src/serving/a.ts",
      'const b = await import("../training/b.ts");',
      "src/serving/a.ts imports src/training/b.ts",
    ],
    [
      "src/runtime/tensor.ts",
      'import * as ort from "onnxruntime-node";',
      "src/runtime/tensor.ts imports the package onnxruntime-node",
    ],
    [
      "src/utils/a.ts",
      'import { b } from "../data/b.ts";',
      "src/utils/a.ts is in a room that test/house/imports.test.ts does not know",
    ],
  ])("%s may not %s", (from, line, wanted) => {
    expect(complaint(from, line)).toEqual([wanted]);
  });

  it.each([
    ["src/model/lora.ts", 'import { a } from "../runtime/tensor.ts";'],
    ["src/api/chat.ts", 'import type { ChatMessage } from "../data/chat-message.ts";'],
    ["src/wire/chat.ts", 'import { a } from "../errors.ts";'],
    ["src/main.ts", 'import { a } from "./store/database.ts";'],
    ["src/runtime/session.ts", 'import * as ort from "onnxruntime-node";'],
    ["src/store/blobs.ts", 'import { open } from "node:fs/promises";'],
  ])("%s may %s", (from, line) => {
    expect(complaint(from, line)).toEqual([null]);
  });

  it("finds circles", () => {
    const edge = (from: string, to: string): Import => ({ from, specifier: "", target: to, typeOnly: false });
    expect(cycles([edge("a", "b"), edge("b", "c"), edge("c", "b"), edge("a", "c")])).toEqual(["b → c → b"]);
  });
});
