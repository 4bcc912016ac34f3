// events.jsonl of a job directory: one trainer event a line, append only. It knows nothing of what the events mean.
import { open, readFile, truncate } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { asSpaceError } from "../model/atomic-write.ts";
import type { TrainerEvent } from "./job-directory.ts";

export class EventLog {
  readonly #path: string;
  readonly #file: FileHandle;
  /** Bytes of whole lines. */
  #size: number;

  private constructor(path: string, file: FileHandle, size: number) {
    this.#path = path;
    this.#file = file;
    this.#size = size;
  }

  /** Opens the log for appending. What a killed trainer left of its last line is cut off: that step runs again. */
  static async open(path: string): Promise<EventLog> {
    const content = await readFile(path).catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return Buffer.alloc(0);
      throw error;
    });
    const whole = content.lastIndexOf("\n") + 1;
    if (whole < content.length) await truncate(path, whole);
    return new EventLog(path, await open(path, "a"), whole);
  }

  /** All events so far, those of earlier trainers too. */
  read(): Promise<TrainerEvent[]> {
    return readEvents(this.#path);
  }

  /** Throws OutOfSpace on a full disk; the log then ends as it did before. */
  async append(event: TrainerEvent): Promise<void> {
    const line = Buffer.from(`${JSON.stringify(event)}\n`);
    try {
      await this.#file.appendFile(line);
    } catch (error) {
      // The next event must not be glued to half of this one. A failure here leaves what a kill would leave.
      await this.#file.truncate(this.#size).catch(() => {});
      throw asSpaceError(error, this.#path);
    }
    this.#size += line.length;
  }

  /** After this the events so far survive a power cut. */
  async flush(): Promise<void> {
    await this.#file.datasync();
  }

  async close(): Promise<void> {
    await this.#file.close();
  }
}

/** Every whole event of a log, in order; lines that are none say nothing reliable and are left out. */
export async function readEvents(path: string): Promise<TrainerEvent[]> {
  const lines = (await readFile(path, "utf8")).split("\n").slice(0, -1);
  return lines.flatMap((line) => parseEvent(line) ?? []);
}

/** Null for a line that is no event: half of one that a killed trainer left, or what a failing disk made of it. */
export function parseEvent(line: string): TrainerEvent | null {
  try {
    const value = JSON.parse(line) as { type?: unknown } | null;
    return typeof value?.type === "string" ? (value as TrainerEvent) : null;
  } catch {
    return null;
  }
}
