// events.jsonl of a job directory: one trainer event a line, append only. It knows nothing of what the events mean.
import { open, readFile, truncate } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import type { TrainerEvent } from "./job-directory.ts";

export class EventLog {
  readonly #file: FileHandle;

  private constructor(file: FileHandle) {
    this.#file = file;
  }

  /** Opens the log for appending. What a killed trainer left of its last line is cut off: that step runs again. */
  static async open(path: string): Promise<EventLog> {
    const content = await readFile(path).catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return Buffer.alloc(0);
      throw error;
    });
    const whole = content.lastIndexOf("\n") + 1;
    if (whole < content.length) await truncate(path, whole);
    return new EventLog(await open(path, "a"));
  }

  async append(event: TrainerEvent): Promise<void> {
    await this.#file.appendFile(`${JSON.stringify(event)}\n`);
  }

  /** After this the events so far survive a power cut. */
  async flush(): Promise<void> {
    await this.#file.datasync();
  }

  async close(): Promise<void> {
    await this.#file.close();
  }
}

/** Every whole event of a log, in order. */
export async function readEvents(path: string): Promise<TrainerEvent[]> {
  const lines = (await readFile(path, "utf8")).split("\n").slice(0, -1);
  return lines.map((line) => JSON.parse(line) as TrainerEvent);
}
