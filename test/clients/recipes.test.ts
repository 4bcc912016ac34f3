// The recipes of docs/clients.md, run exactly as they stand there: the blocks of a section, joined by language, are a program.
// Those in Python make their virtual environments unless they are there, and are skipped by name where that fails.
import { spawnSync } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { delimiter, dirname, join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { atCleanUp, cleanUp, JOB_TIMEOUT_MS } from "../e2e/harness.ts";
import { readProjectFile } from "../house/source-files.ts";
import {
  clientEnvironment,
  EMBEDDING_WIDTH,
  OFFLINE,
  PROGRAM_TIMEOUT_MS,
  ROOT,
  run,
  startServer,
  trainingFile,
  tunedModel,
} from "./harness.ts";
import { pythonEnvironment } from "./python-environments.ts";
import type { PythonEnvironment } from "./python-environments.ts";

const EMBEDDING = new RegExp(`^numbers in an embedding: ${EMBEDDING_WIDTH}$`, "m");
const NEW_MODEL = /\bft:gpt-4o-mini-2024-07-18:personal::[A-Za-z0-9]{8}\b/;
const LABEL = /^label: .*(billing|refund)/m;

const NODE = { language: "js", program: process.execPath };
const SHELL = { language: "sh", program: "bash" };
const inPython = ({ python, note }: PythonEnvironment) => ({ language: "python", program: python, note });

interface Recipe {
  language: string;
  /** Null where it is not to be had. */
  program: string | null;
  /** Behind its name: why it is skipped. */
  note?: string;
  /** What it prints. */
  prints: RegExp[];
  /** A folder of programs that it calls. */
  path?: string;
}

const hasCurl = spawnSync("curl", ["--version"]).status === 0;
const [commandLine, python, libraries] = await Promise.all([
  pythonEnvironment("openai-1"),
  pythonEnvironment("openai-3"),
  pythonEnvironment("libraries"),
]);
const RECIPES: Record<string, Recipe> = {
  "OpenAI for Node": { ...NODE, prints: [EMBEDDING, NEW_MODEL] },
  "OpenAI for Python": { ...inPython(python), prints: [EMBEDDING, NEW_MODEL] },
  LangChain: { ...inPython(libraries), prints: [LABEL, EMBEDDING] },
  LlamaIndex: { ...inPython(libraries), prints: [EMBEDDING, NEW_MODEL] },
  LiteLLM: { ...inPython(libraries), prints: [EMBEDDING, NEW_MODEL] },
  "Vercel AI SDK": { ...NODE, prints: [LABEL, EMBEDDING] },
  curl: {
    ...SHELL,
    program: hasCurl ? SHELL.program : null,
    note: hasCurl ? "" : " (skipped: curl was not found)",
    prints: [/^data: \[DONE\]$/m, /"object":"embedding"/, /"status":"succeeded"/, NEW_MODEL],
  },
  "OpenAI's command line": {
    ...SHELL,
    program: commandLine.python === null ? null : SHELL.program,
    note: commandLine.note,
    path: dirname(commandLine.python ?? ""),
    prints: [/"filename": "train\.jsonl"/, /"fine_tuned_model": "ft:/],
  },
};

const sections = readProjectFile("docs/clients.md")
  .split(/^## /m)
  .slice(1)
  .map((text) => ({ name: text.slice(0, text.indexOf("\n")), text }));

let env: NodeJS.ProcessEnv;
let cwd: string;

beforeAll(async () => {
  const server = await startServer();
  env = {
    ...clientEnvironment(server, await tunedModel(server)),
    ...OFFLINE,
    PYTHONPATH: join(import.meta.dirname, "absent"),
  };
  // Within node_modules, so that Node finds the packages as it does in a user's project.
  cwd = await mkdtemp(join(ROOT, "node_modules", ".recipes-"));
  atCleanUp(() => rm(cwd, { recursive: true, force: true }));
  await trainingFile(cwd);
}, JOB_TIMEOUT_MS);
afterAll(cleanUp);

test("every section of the page is run", () => {
  expect(sections.map(({ name }) => name)).toEqual(Object.keys(RECIPES));
});

for (const { name, text } of sections) {
  const recipe = RECIPES[name];
  test.skipIf(recipe?.program === null)(
    `${name}${recipe?.note ?? ""}`,
    { timeout: PROGRAM_TIMEOUT_MS },
    async () => {
      const { language = "", program = null, prints = [], path } = recipe ?? {};
      const blocks = [...text.matchAll(/^```(\w+)\n([^]*?)^```$/gm)];
      expect(blocks.map(([, written]) => written)).toEqual(blocks.map(() => language));
      const file = join(cwd, `${name.replaceAll(/\W/g, "-")}.${language === "js" ? "mjs" : language}`);
      await writeFile(file, blocks.map(([, , code]) => code).join("\n"));
      const result = await run(program ?? "", [...(language === "sh" ? ["-euo", "pipefail"] : []), file], {
        env: path === undefined ? env : { ...env, PATH: [path, env["PATH"]].join(delimiter) },
        cwd,
      });
      expect(result.code, result.stderr).toBe(0);
      for (const printed of prints) expect(result.stdout).toMatch(printed);
    },
  );
}
