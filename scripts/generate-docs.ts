// Writes docs/settings.md from the tables of src/config.ts: `npm run docs`. The page is committed, and
// test/house/docs.test.ts compares it with what this file would write.
import { writeFileSync } from "node:fs";
import { CLIENT_SETTINGS, MIGRATION_SETTINGS, SETTINGS } from "../src/config.ts";

export const SETTINGS_PAGE = "docs/settings.md";

/** Defaults that are computed on the machine, in words: the page must not show the machine it was made on. */
const COMPUTED_DEFAULTS: Readonly<Record<string, string>> = {
  homeDirectory:
    "`$XDG_CACHE_HOME/tunesmith` or `~/.cache/tunesmith`; on macOS `~/Library/Caches/tunesmith`; on Windows `%LOCALAPPDATA%\\tunesmith`",
};

/** The whole page. */
export function settingsPage(): string {
  const rows = Object.entries(SETTINGS).map(([name, setting]) => [
    `\`${setting.variable}\``,
    shownDefault(name, setting.default),
    setting.unit ?? "",
    setting.help,
  ]);
  const clientRows = Object.values(CLIENT_SETTINGS).map(({ variables, help }) => [
    variables.map((variable) => `\`${variable}\``).join(", else "),
    help,
  ]);
  const migrationRows = Object.values(MIGRATION_SETTINGS).map(({ variable, help }) => [
    `\`${variable}\``,
    help,
  ]);
  return [
    "<!-- Written by scripts/generate-docs.ts from src/config.ts. Change the settings there, then run `npm run docs`. -->",
    "",
    "# Settings",
    "",
    "All settings are environment variables. A wrong value stops the start with a message that names every bad variable; a",
    "variable that begins with `TUNESMITH_` and is no setting is named in the log as most likely misspelt. The options",
    "`--host` and `--port` of `tunesmith serve` go before their variables.",
    "",
    "## Server",
    "",
    ...table(["Variable", "Default", "Unit", "Meaning"], rows),
    "",
    "## Client commands",
    "",
    "All commands but `serve` and `models pull` talk to a server over HTTP. Of several variables the first that is set",
    "counts; the options `--base-url` and `--api-key` go before all of them.",
    "",
    ...table(["Variable", "Meaning"], clientRows),
    "",
    "## Moving from OpenAI",
    "",
    "`tunesmith migrate openai` talks to two servers, so there `OPENAI_` variables mean OpenAI and nothing else: this server",
    "is the one of `TUNESMITH_BASE_URL` and `TUNESMITH_API_KEY`, or of the options.",
    "",
    ...table(["Variable", "Meaning"], migrationRows),
    "",
  ].join("\n");
}

function shownDefault(name: string, value: unknown): string {
  if (typeof value === "string") return value === "" ? "none" : `\`${value}\``;
  const words = COMPUTED_DEFAULTS[name];
  if (words === undefined) {
    throw new Error(
      `The default of the setting ${name} is computed. Say in words what it is, in COMPUTED_DEFAULTS of scripts/generate-docs.ts.`,
    );
  }
  return words;
}

function table(headings: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  return [line(headings), line(headings.map(() => "---")), ...rows.map(line)];
}

if (import.meta.filename === process.argv[1]) {
  writeFileSync(new URL(`../${SETTINGS_PAGE}`, import.meta.url), settingsPage());
}
