// A bound on how many things run at a time, first come, first served.

export interface Slots {
  /** Resolves when there is room; the function it gives makes room again and may be called more than once. Rejects with the signal's reason. */
  take(signal: AbortSignal): Promise<() => void>;
}

export function createSlots(count: number): Slots {
  let free = count;
  const waiting = new Set<() => void>();
  const giveBack = (): void => {
    free += 1;
    const [next] = waiting;
    next?.();
  };
  const taken = (): (() => void) => {
    free -= 1;
    let isTaken = true;
    return () => {
      if (isTaken) giveBack();
      isTaken = false;
    };
  };
  return {
    async take(signal) {
      signal.throwIfAborted();
      if (free > 0) return taken();
      return new Promise((resolve, reject) => {
        const leave = (): void => {
          waiting.delete(go);
          signal.removeEventListener("abort", refuse);
        };
        const go = (): void => {
          leave();
          resolve(taken());
        };
        const refuse = (): void => {
          leave();
          reject(signal.reason as Error);
        };
        waiting.add(go);
        signal.addEventListener("abort", refuse);
      });
    },
  };
}
