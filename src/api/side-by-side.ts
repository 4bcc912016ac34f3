// Several streams of events as one, in the order in which they come, a bounded number at a time.

/** Starts them in order. When one fails, or nobody reads on, `onEnd` is called and the others are let go. */
export async function* sideBySide<T>(
  starts: readonly (() => AsyncIterable<T>)[],
  { width, onEnd }: { width: number; onEnd: () => void },
): AsyncGenerator<{ index: number; value: T }> {
  const open = new Map<
    number,
    { iterator: AsyncIterator<T>; next: Promise<{ index: number; result: IteratorResult<T> }> }
  >();
  const advance = (index: number, iterator: AsyncIterator<T>): void => {
    const next = iterator.next().then((result) => ({ index, result }));
    // Its failure is met where it is awaited; by then another one may have ended it all.
    next.catch(() => undefined);
    // To the end of the line, so that none that has much to say keeps the others waiting.
    open.delete(index);
    open.set(index, { iterator, next });
  };
  let started = 0;
  try {
    for (;;) {
      for (; started < starts.length && open.size < width; started++) {
        const start = starts[started] as () => AsyncIterable<T>;
        advance(started, start()[Symbol.asyncIterator]());
      }
      if (open.size === 0) return;
      const { index, result } = await Promise.race([...open.values()].map(({ next }) => next));
      const iterator = open.get(index)?.iterator as AsyncIterator<T>;
      if (result.done === true) open.delete(index);
      else {
        advance(index, iterator);
        yield { index, value: result.value };
      }
    }
  } finally {
    onEnd();
    await Promise.allSettled([...open.values()].map(async ({ iterator }) => iterator.return?.()));
  }
}
