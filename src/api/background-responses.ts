// Responses that go on after their request was answered: at most so many at a time, each ended by its answer, by a client that
// cancels it, or by the end of the server.
import { Overloaded, Unavailable } from "../errors.ts";

/** Half of what waits at serving's door: those who wait for an answer find room beside them. */
const MAX_BACKGROUND_RESPONSES = 128;

export class BackgroundResponses {
  readonly #running = new Map<string, { controller: AbortController; ended: Promise<void> }>();
  readonly #stopping: AbortSignal;
  #isClosed = false;

  /** `stopping` aborts when the server's grace for work in flight is over. */
  constructor(stopping: AbortSignal) {
    this.#stopping = stopping;
  }

  /**
   * Resolves when `prepare` has; `work`, which never rejects, then goes on by itself. Throws Unavailable when the server stops,
   * Overloaded when no more may run, and what `prepare` throws.
   */
  async start(
    id: string,
    { prepare, work }: { prepare: () => Promise<void>; work: (signal: AbortSignal) => Promise<void> },
  ): Promise<void> {
    if (this.#isClosed) throw new Unavailable("The server is stopping. Send the request again in a moment.");
    if (this.#running.size >= MAX_BACKGROUND_RESPONSES) {
      throw new Overloaded(
        `There are ${MAX_BACKGROUND_RESPONSES} responses in the background already, the most that run at a time. Send the request again in a moment.`,
        { code: "server_is_overloaded" },
      );
    }
    const controller = new AbortController();
    const prepared = prepare();
    const ended = prepared
      .then(
        () => work(AbortSignal.any([this.#stopping, controller.signal])),
        () => undefined, // told to the caller below
      )
      .finally(() => {
        this.#running.delete(id);
      });
    this.#running.set(id, { controller, ended });
    await prepared;
  }

  cancel(id: string): void {
    this.#running.get(id)?.controller.abort();
  }

  /** Resolves when none is running; no more begin. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await Promise.all([...this.#running.values()].map((each) => each.ended));
  }
}
