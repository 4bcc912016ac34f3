// One piece of work for all who want its result at the same time: a download that several requests wait for. It knows nothing
// of what is done.
import { Cancelled } from "../errors.ts";

interface Running<T> {
  result: Promise<T>;
  /** How many wait for it. */
  waiting: number;
  stop: AbortController;
}

/**
 * Makes of `work` a function that runs it once for all callers of the same key at the same time. A caller whose signal aborts
 * gets Cancelled at once; the work itself is aborted when nobody waits for it any more.
 */
export function shareWork<T>(
  work: (key: string, signal: AbortSignal) => Promise<T>,
): (key: string, signal: AbortSignal) => Promise<T> {
  const running = new Map<string, Running<T>>();

  function start(key: string): Running<T> {
    const stop = new AbortController();
    const one: Running<T> = { result: work(key, stop.signal), waiting: 0, stop };
    const forget = (): void => {
      if (running.get(key) === one) running.delete(key);
    };
    stop.signal.addEventListener("abort", forget);
    // Also keeps a failure after the last caller has gone from being one that nobody handles.
    one.result.then(forget, forget);
    running.set(key, one);
    return one;
  }

  return async (key, signal) => {
    if (signal.aborted) throw new Cancelled();
    const one = running.get(key) ?? start(key);
    one.waiting += 1;
    let leave: () => void = () => undefined;
    const left = new Promise<never>((_, reject) => {
      leave = () => reject(new Cancelled());
      signal.addEventListener("abort", leave, { once: true });
    });
    try {
      return await Promise.race([one.result, left]);
    } finally {
      signal.removeEventListener("abort", leave);
      one.waiting -= 1;
      if (one.waiting === 0) one.stop.abort();
    }
  };
}
