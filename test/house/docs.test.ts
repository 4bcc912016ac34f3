// The documentation against the code: settings, routes, commands, limits, paths and names. What it checks cannot drift;
// whether the words are good is for readers.
import { existsSync } from "node:fs";
import { dirname, join } from "node:path/posix";
import type { Command } from "commander";
import { describe, expect, it } from "vitest";
import { SETTINGS_PAGE, settingsPage } from "../../scripts/generate-docs.ts";
import { buildProgram } from "../../src/cli/program.ts";
import type { Terminal } from "../../src/cli/terminal.ts";
import { CLIENT_SETTINGS, defaultText, MIGRATION_SETTINGS, SETTINGS } from "../../src/config.ts";
import { CATALOGUE } from "../../src/model/catalogue.ts";
import { OPERATIONS } from "../../src/wire/operations.ts";
import { isCheckout, projectFiles, readProjectFile, ROOT } from "./source-files.ts";

const pages = isCheckout()
  ? projectFiles({ untracked: true }).filter((path) => /^(README|CHANGELOG|docs\/.*)(\.md)$/.test(path))
  : [];
const readme = readProjectFile("README.md");
const architecture = readProjectFile("docs/architecture.md");

/** All first groups of a global pattern. */
const found = (text: string, pattern: RegExp) => [...text.matchAll(pattern)].map(([, group = ""]) => group);

describe("settings", () => {
  it("docs/settings.md is what `npm run docs` writes", () => {
    expect(readProjectFile(SETTINGS_PAGE)).toBe(settingsPage());
  });

  it("the page shows every variable and nothing of this machine", () => {
    const variables = [
      ...Object.values(SETTINGS).map(({ variable }) => variable),
      ...Object.values(CLIENT_SETTINGS).flatMap((setting) => setting.variables),
      ...Object.values(MIGRATION_SETTINGS).map(({ variable }) => variable),
    ];
    for (const variable of variables) expect(settingsPage()).toContain(`\`${variable}\``);
    expect(settingsPage()).not.toContain(defaultText(SETTINGS.homeDirectory, process.env));
  });

  it("no page names a variable that is no setting", () => {
    const known = new Set(found(settingsPage(), /`([A-Z_]+)`/g));
    const named = pages.flatMap((page) => found(readProjectFile(page), /\b(TUNESMITH_[A-Z_]*[A-Z])\b/g));
    expect(named.filter((variable) => !known.has(variable))).toEqual([]);
  });
});

describe("routes", () => {
  // That the server has these and no other, test/http/operations.test.ts sees to.
  const routes = OPERATIONS.map(({ method, path }) => `${method} ${path}`);

  it("docs/api.md has a heading for each, and for no other", () => {
    const headings = found(readProjectFile("docs/api.md"), /^### `([A-Z]+ \/[^`]+)`$/gm);
    expect(headings.sort()).toEqual(routes.sort());
  });

  it("docs/fidelity.md has a row for each under /v1, and names no other", () => {
    const section = /## Operations\n([\s\S]*?)\n## /.exec(readProjectFile("docs/fidelity.md"))?.[1] ?? "";
    const rows = section.split("\n").filter((line) => line.startsWith("| `"));
    // Same, differs, why: one of the first two says something, and what differs has its reason.
    const cells = rows.map((row) => row.split(/(?<!\\)\|/).map((cell) => cell.trim()));
    for (const [, operation, same, differs, why, ...rest] of cells) {
      expect(rest, operation).toEqual([""]);
      expect(`${same}${differs}`, operation).not.toBe("");
      expect(why !== "", operation).toBe(differs !== "");
    }
    const named = cells.map(
      ([, operation = ""]) => /^`([A-Z]+ \/[^`]+)`(?:: .+)?$/.exec(operation)?.[1] ?? operation,
    );
    expect([...new Set(named)].sort()).toEqual(routes.filter((route) => route.includes(" /v1/")).sort());
  });
});

describe("commands", () => {
  const leaves = (command: Command, path: string): { path: string; command: Command }[] =>
    command.commands.length === 0
      ? [{ path, command }]
      : command.commands.flatMap((each) => leaves(each, `${path} ${each.name()}`));
  const program = buildProgram({
    version: "",
    terminal: { signal: new AbortController().signal } as Terminal,
    defaultBaseUrl: "",
    connect: () => {
      throw new Error("not to be run");
    },
    connectMigration: () => {
      throw new Error("not to be run");
    },
    serve: async () => 0,
    pull: async () => 0,
    check: async () => 0,
    verify: async () => 0,
    finish: () => undefined,
  });
  const commands = leaves(program, "tunesmith");
  const rows = found(readme, /^\| `(tunesmith [^`]+)` \|/gm).map((row) => row.replaceAll(/ [<[].*$/g, ""));

  it("README's table has a row for each, and for no other", () => {
    expect(rows).toEqual(commands.map(({ path }) => path));
  });

  it("every option in README's section exists", () => {
    const section = /## Command line\n([\s\S]*?)\n## /.exec(readme)?.[1] ?? "";
    const options = [program, ...commands.map(({ command }) => command)].flatMap(({ options }) =>
      options.map(({ long }) => long),
    );
    const named = found(section, /`(--[a-z-]+)`/g).filter((option) => option !== "--help");
    expect(named.length).toBeGreaterThan(10);
    expect(named.filter((option) => !options.includes(option))).toEqual([]);
  });

  it("every npm command on a page is a script of package.json", () => {
    const { scripts } = JSON.parse(readProjectFile("package.json")) as { scripts: Record<string, string> };
    // At the start of a line of code, behind a backtick, or behind another command.
    const COMMAND = /(?:^|`|&& )npm (?:run )?([a-z][\w:-]*)/gm;
    const named = pages.flatMap((page) => found(readProjectFile(page), COMMAND));
    expect(named).toEqual(expect.arrayContaining(["ci", "quickstart", "test"]));
    expect(named.filter((name) => name !== "ci" && !(name in scripts))).toEqual([]);
  });
});

it("README names every base model of the catalogue", () => {
  for (const { id, parameters } of CATALOGUE) expect(readme).toContain(`| \`${id}\` | ${parameters} |`);
});

it("README's names are the aliases, and what they stand for", () => {
  const rows = [...readme.matchAll(/^\| `(g[^`]+)`, `([^`]+)` \| `([^`]+)` \|$/gm)];
  // Embedding models and names without an undated one: a name alone.
  const alone = [
    ...readme.matchAll(/^\| `((?:text-embedding|gpt|babbage|davinci)-[^`]+)` \| `([^`]+)` \|$/gm),
  ];
  const shown = [
    ...rows.flatMap(([, name = "", snapshot = "", base = ""]) => [
      [name, snapshot],
      [snapshot, base],
    ]),
    ...alone.map(([, name = "", base = ""]) => [name, base]),
  ];
  expect(Object.fromEntries(shown)).toEqual(SETTINGS.modelAliases.parse(""));
});

describe("limits of docs/architecture.md", () => {
  const limits = [...architecture.matchAll(/^\| `([\w.]+)` \| `([^`]+)` \|[^|]*\| `([^`]+\.ts)` \|/gm)].map(
    ([, name = "", value = "", file = ""]) => ({ name, value, file }),
  );

  it("are there", () => {
    expect(limits.length).toBeGreaterThan(30);
  });

  it.each(limits)("$name is $value", ({ name, value, file }) => {
    const [constant = "", member] = name.split(".");
    const text = readProjectFile(file);
    const start = text.indexOf(`const ${constant}`);
    expect(start, `${constant} in ${file}`).toBeGreaterThanOrEqual(0);
    const definition = text.slice(start, text.indexOf(";", start));
    const escaped = value.replaceAll(/[*<>()+.]/g, "\\$&");
    const pattern = member === undefined ? `= ${escaped}$` : `\\b${member}: ${escaped}(,|\\s|$)`;
    // A limit per case ({ training_file: 10, … }) is no single value, and not in the table.
    expect(definition).toMatch(new RegExp(pattern));
  });
});

describe.skipIf(!isCheckout())("names on the pages", () => {
  it("every path of the source exists", () => {
    const PATH = /`((?:src|test|scripts|bench|bin|docs|examples|\.ci)\/[\w./-]*)(?:#\w+)?`/g;
    const paths = pages.flatMap((page) => found(readProjectFile(page), PATH).map((path) => ({ page, path })));
    expect(paths.length).toBeGreaterThan(60);
    expect(paths.filter(({ path }) => !existsSync(join(ROOT, path)))).toEqual([]);
  });

  it("every file#name is a name in that file", () => {
    const SYMBOL = /`((?:src|test|scripts)\/[\w./-]+\.ts)#(\w+)`/g;
    const names = pages.flatMap((page) =>
      [...readProjectFile(page).matchAll(SYMBOL)].map(([, file = "", name = ""]) => ({ page, file, name })),
    );
    expect(names.length).toBeGreaterThan(40);
    const missing = names.filter(({ file, name }) => {
      // Defined there: a function, class, constant or type, or a method.
      const definition = new RegExp(
        `\\b(?:function\\*?|class|const|interface|type) ${name}\\b|^  (?:async )?#?${name}\\(`,
        "m",
      );
      return !existsSync(join(ROOT, file)) || !definition.test(readProjectFile(file));
    });
    expect(missing).toEqual([]);
  });

  it("every link to a file leads to one", () => {
    const links = pages.flatMap((page) =>
      found(readProjectFile(page), /\]\(([^)#\s]+)(?:#[\w-]*)?\)/g)
        .filter((target) => !/^https?:/.test(target))
        .map((target) => ({ page, target: join(dirname(page), target) })),
    );
    expect(links.filter(({ target }) => !existsSync(join(ROOT, target)))).toEqual([]);
  });

  it("every decision is linked from docs/architecture.md", () => {
    const decisions = pages.filter((page) => page.startsWith("docs/decisions/"));
    expect(decisions.length).toBeGreaterThan(0);
    for (const page of decisions) expect(architecture).toContain(`](${page.replace("docs/", "")})`);
  });

  it("decision 0006 has a row for every dependency", () => {
    const { dependencies } = JSON.parse(readProjectFile("package.json")) as {
      dependencies: Record<string, string>;
    };
    const rows = found(readProjectFile("docs/decisions/0006-dependencies.md"), /^\| `([^`]+)` \|/gm);
    expect(rows.sort()).toEqual(Object.keys(dependencies).sort());
  });
});
