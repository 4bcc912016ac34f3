// Moves the write-ahead log into the database file, in a thread. SQLite does it inside a commit, where every request waits for the disk
// meanwhile: tens of milliseconds for a thousand pages.
import Sqlite from "libsql/promise";

/**
 * From a write to the checkpoint that moves it, in milliseconds: many writes share one. A longer log would keep the disk busy for so long
 * that the writes which come meanwhile wait for it: 20 ms for that of a second, 6 for this, at 80 writes of 8 pages a second.
 */
const CHECKPOINT_DELAY_MS = 200;

/**
 * Pages of 4 KiB in the log from which on SQLite itself moves them, inside a commit: writes that come without a gap keep a checkpoint
 * in a thread from ever reaching the log's end, and so the log from beginning anew.
 */
export const MAX_LOG_PAGES = 8_192;

export class LogCheckpoints {
  readonly #path: string;
  readonly #delayMs: number;
  #connection: Sqlite | null = null;
  #timer: NodeJS.Timeout | null = null;
  #running: Promise<void> = Promise.resolve();

  constructor(path: string, delayMs = CHECKPOINT_DELAY_MS) {
    this.#path = path;
    this.#delayMs = delayMs;
  }

  /** Something was written. */
  due(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = null;
      this.#running = this.#running.then(() => this.#checkpoint());
    }, this.#delayMs).unref();
  }

  async close(): Promise<void> {
    if (this.#timer !== null) clearTimeout(this.#timer);
    await this.#running;
    this.#connection?.close();
  }

  async #checkpoint(): Promise<void> {
    try {
      this.#connection ??= new Sqlite(this.#path, {});
      // PASSIVE waits for nobody, and nobody for it.
      await this.#connection.exec("PRAGMA wal_checkpoint(PASSIVE)");
    } catch {
      // What is still in the log is safe there: the next write tries again, and beyond its bound SQLite, as it always did.
    }
  }
}
