// Where the command line writes and reads: the three streams, whether a person sits at them, and the few shapes of
// output (one JSON line, a table, a note). It knows no command and no server.
import type { Readable, Writable } from "node:stream";
import type { ApiClient } from "./client.ts";

export interface Terminal {
  stdin: Readable & { isTTY?: boolean };
  stdout: Writable & { isTTY?: boolean; columns?: number };
  stderr: Writable & { isTTY?: boolean };
  /** Aborts on Ctrl-C or SIGTERM. */
  signal: AbortSignal;
}

/** How the process ends, so that scripts can tell the cases apart. */
export const EXIT = {
  success: 0,
  /** The server refused the request, or the job that was followed failed or was cancelled. */
  failure: 1,
  /** The command line itself is wrong. */
  usage: 2,
  /** No server answers. */
  unreachable: 3,
  /** Ended by Ctrl-C: 128 + SIGINT, as shells count. */
  interrupted: 130,
} as const;

/** A column of a table: its heading and whether its values are numbers (set to the right). */
export interface Column {
  heading: string;
  align?: "left" | "right";
}

/** Rows under headings, columns as wide as their widest value, two spaces between. */
export function formatTable(columns: readonly Column[], rows: readonly (readonly string[])[]): string {
  const widths = columns.map((column, index) =>
    Math.max(column.heading.length, ...rows.map((row) => (row[index] ?? "").length)),
  );
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, index) => {
        const width = widths[index] ?? 0;
        return columns[index]?.align === "right" ? cell.padStart(width) : cell.padEnd(width);
      })
      .join("  ")
      .trimEnd();
  return [line(columns.map((column) => column.heading)), ...rows.map(line)].join("\n") + "\n";
}

/** Name and value pairs below each other; pairs without a value are left out. */
export function formatPairs(pairs: readonly (readonly [string, string | null])[]): string {
  const shown = pairs.filter((pair): pair is readonly [string, string] => pair[1] !== null);
  const width = Math.max(0, ...shown.map(([name]) => name.length));
  return shown.map(([name, value]) => `${name.padEnd(width)}  ${value}\n`).join("");
}

export function formatCount(value: number): string {
  return value.toLocaleString("en-US");
}

/** Unix seconds as a UTC time, the same on every machine. */
export function formatTime(unixSeconds: number | null): string {
  if (unixSeconds === null) return "-";
  return new Date(unixSeconds * 1000).toISOString().replace("T", " ").replace(".000Z", "Z");
}

/** Seconds as "42s", "3m05s" or "2h07m". */
export function formatDuration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole}s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes}m${String(whole % 60).padStart(2, "0")}s`;
  return `${Math.floor(minutes / 60)}h${String(minutes % 60).padStart(2, "0")}m`;
}

/** Options that every command takes. */
export interface GlobalOptions {
  baseUrl?: string;
  apiKey?: string;
  json?: boolean;
}

/** What every client command gets. */
export interface CommandContext {
  client: ApiClient;
  terminal: Terminal;
  /** Print JSON for programs instead of text for people. */
  json: boolean;
}

/** Prints a command's answer: the API's own object as one line of JSON, or the text made of it. */
export function printAnswer(context: CommandContext, answer: object, text: () => string): void {
  context.terminal.stdout.write(context.json ? `${JSON.stringify(answer)}\n` : text());
}

/** Tells a person what goes on beside the answer; silent with --json. */
export function printNote(context: CommandContext, text: string): void {
  if (!context.json) context.terminal.stderr.write(`${text}\n`);
}
