// What committed text must not say: where it was written, where its packages came from, what is still to do.
import { describe, expect, it } from "vitest";
import { isCheckout, projectFiles, readProjectFile } from "./source-files.ts";

interface Rule {
  name: string;
  pattern: RegExp;
  /** Files it holds for. */
  within: RegExp;
}

// Put together from pieces, so that this file does not break its own rules.
const word = (...pieces: string[]) => pieces.join("");
const RULES: readonly Rule[] = [
  {
    name: "a machine's path",
    pattern: new RegExp(`(?<![\\w.-])/(${word("wo", "rk")}|${word("ro", "ot")})/`),
    within: /./,
  },
  { name: "a machine's path", pattern: new RegExp(`(?<![\\w.-])/${word("ho", "me")}/[a-z]+/`), within: /./ },
  {
    name: "a scratch folder",
    pattern: new RegExp(`/${word("t", "mp")}/[\\w-]*${word("la", "b")}\\b`),
    within: /./,
  },
  {
    name: "a package registry's host",
    pattern: new RegExp(
      [
        word("registry.", "npm"),
        word("files.", "python", "hosted"),
        word("py", "pi\\.org"),
        word("art", "ifactory"),
        word("py", "pi-mirror"),
        word("npm", "mirror\\."),
        `"${word("resol", "ved")}": "https?:`,
      ].join("|"),
    ),
    within: /./,
  },
  {
    name: "an unfinished note",
    pattern: new RegExp(`\\b(${word("TO", "DO")}|${word("FIX", "ME")}|${word("X", "XX")})\\b`),
    within: /^src\//,
  },
];

/** Binary files and data written by others. */
const SKIPPED = /\.(safetensors|gguf|png|jpg|ico|woff2)$|^LICENSE$/;

function complaints(path: string, text: string): string[] {
  return RULES.filter(({ within, pattern }) => within.test(path) && pattern.test(text)).map(
    ({ name, pattern }) => {
      const at = text.search(pattern);
      const line = text.slice(0, at).split("\n").length;
      return `${path}:${line} holds ${name}`;
    },
  );
}

describe.skipIf(!isCheckout())("committed text", () => {
  it("names no machine, no registry and, in src, nothing still to do", () => {
    const files = projectFiles({ untracked: false }).filter((path) => !SKIPPED.test(path));
    expect(files.flatMap((path) => complaints(path, readProjectFile(path)))).toEqual([]);
  });
});

describe("the rules themselves", () => {
  it.each([
    [`see ${word("/wo", "rk/x")}`, "a machine's path"],
    [`cd ${word("/ro", "ot/.cache")}`, "a machine's path"],
    [word("/t", "mp/", "lab/notes"), "a scratch folder"],
    [word("https://registry.", "npmjs.org/x"), "a package registry's host"],
    [`// ${word("TO", "DO")}: more`, "an unfinished note"],
  ])("%s", (text, name) => {
    expect(complaints("src/a.ts", `first\n${text}`)).toEqual([`src/a.ts:2 holds ${name}`]);
  });

  it("common words that look like paths pass", () => {
    expect(
      complaints("README.md", "a model/work/root of it; GET /v1/homework/; ~/.cache; TODO list in docs"),
    ).toEqual([]);
  });
});
