// Hands events from callbacks to one async reader, in order. Bounded by its producers: an answer has at most as many events
// as the context has tokens.

export class EventQueue<T> implements AsyncIterable<T> {
  readonly #items: T[] = [];
  #end: { error: unknown } | "ended" | null = null;
  #wake: (() => void) | null = null;

  push(item: T): void {
    if (this.#end !== null) return;
    this.#items.push(item);
    this.#wake?.();
  }

  /** No more events come; those already there are still read. */
  end(): void {
    this.#end ??= "ended";
    this.#wake?.();
  }

  /** The reader gets the events so far, then this error. */
  fail(error: unknown): void {
    this.#end ??= { error };
    this.#wake?.();
  }

  async *[Symbol.asyncIterator](): AsyncIterator<T> {
    for (;;) {
      const item = this.#items.shift();
      if (item !== undefined) yield item;
      else if (this.#end === "ended") return;
      else if (this.#end !== null) throw this.#end.error;
      else await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }
}
