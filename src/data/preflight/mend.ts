// Mending a data file: what has one right answer is corrected and said, everything else is copied as it is and said too.
// No line is left out but blank ones.
import { isUtf8 } from "node:buffer";
import { open, readFile, rename, rm, stat } from "node:fs/promises";
import { DatasetError } from "../../errors.ts";
import { fileLines } from "../file-lines.ts";
import { parseJson } from "../json-text.ts";
import { DATASET_FORMATS, MAX_LINE_BYTES } from "../dataset.ts";
import type { DatasetReport } from "../dataset.ts";
import { mendChat } from "./mend-chat.ts";
import { mendPair } from "./mend-pair.ts";
import { MAX_FAULTS } from "./report.ts";

export interface MendedFile {
  lines: number;
  /** Blank lines that were left out. */
  blankLines: number;
  changedLines: number;
  /** By the line of the file that was read; at most MAX_FAULTS. */
  changes: { line: number; changes: string[] }[];
  /** Lines of the copy that still need a person. */
  unmendedLines: number;
}

/** A file that is one JSON list is read whole; a larger one is no slip but another format. */
const MAX_LIST_BYTES = 64 * 1024 * 1024;

type Method = DatasetReport["method"];

/** Writes the corrected copy, whole or not at all. Throws DatasetError for a line too long to be copied, Unavailable. */
export async function mendFile(
  path: string,
  target: string,
  { method = "supervised", signal }: { method?: Method; signal?: AbortSignal } = {},
): Promise<MendedFile> {
  const mended: MendedFile = { lines: 0, blankLines: 0, changedLines: 0, changes: [], unmendedLines: 0 };
  const temporary = `${target}.part`;
  const output = await open(temporary, "w");
  const write = async (line: number, bytes: Buffer, already: string[]) => {
    const { text, changes, isGood } = mendLine(bytes, method);
    mended.lines += 1;
    if (!isGood) mended.unmendedLines += 1;
    const all = [...already, ...changes];
    if (all.length > 0) {
      mended.changedLines += 1;
      if (mended.changes.length < MAX_FAULTS) mended.changes.push({ line, changes: all });
    }
    await output.appendFile(text ?? bytes);
    await output.appendFile("\n");
  };
  try {
    const list = await readList(path);
    if (list !== null) {
      for (const [i, entry] of list.entries())
        await write(i + 1, Buffer.from(JSON.stringify(entry)), [
          "was an entry of a list, now a line of its own",
        ]);
    } else {
      for await (const { number, bytes } of fileLines(path, { maxLineBytes: MAX_LINE_BYTES, signal })) {
        if (bytes === null) {
          throw new DatasetError(
            `Line ${number} is longer than ${MAX_LINE_BYTES} bytes and cannot be copied. Shorten it first.`,
            { lines: [number] },
          );
        }
        if (bytes.toString("latin1").trim() === "") mended.blankLines += 1;
        else await write(number, bytes, []);
      }
    }
    await output.sync();
    await output.close();
    await rename(temporary, target);
  } catch (error) {
    await output.close().catch(() => undefined);
    await rm(temporary, { force: true });
    throw error;
  }
  return mended;
}

/** The entries of a file that is one JSON list, as many exports are; null of any other. */
async function readList(path: string): Promise<unknown[] | null> {
  const { size } = await stat(path);
  if (size > MAX_LIST_BYTES) return null;
  const bytes = await readFile(path);
  if (!isUtf8(bytes) || !/^\s*\[/.test(bytes.toString("utf8", 0, 100))) return null;
  const parsed = parseJson(bytes.toString("utf8"));
  return parsed.ok && Array.isArray(parsed.value) ? parsed.value : null;
}

const MENDERS = { supervised: mendChat, dpo: mendPair } as const;

/** `text` is null where the bytes stay as they are. */
export function mendLine(
  bytes: Buffer,
  method: Method = "supervised",
): { text: string | null; changes: string[]; isGood: boolean } {
  const text = isUtf8(bytes) ? bytes.toString("utf8") : null;
  if (text === null) return { text: null, changes: [], isGood: false };
  const changes: string[] = [];
  let parsed = parseJson(text);
  if (!parsed.ok) {
    const shorter = text.trimEnd().replace(/,$/, "");
    parsed = parseJson(shorter);
    if (!parsed.ok) return { text: null, changes, isGood: false };
    changes.push("removed the comma behind the object");
  }
  const value = MENDERS[method](parsed.value, changes);
  return {
    text: changes.length === 0 ? null : JSON.stringify(value),
    changes,
    isGood: DATASET_FORMATS[method].read(value).example !== null,
  };
}
