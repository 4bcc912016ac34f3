// Work on many things, a few at a time.

/**
 * Starts in order. What fails ends it: nothing more is begun, and the first failure is passed on once all that was begun has ended, so
 * that none writes into a folder that is no longer locked.
 */
export async function someAtATime<T>(
  things: readonly T[],
  width: number,
  work: (thing: T, index: number) => Promise<void>,
): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < things.length) {
      const index = next++;
      try {
        await work(things[index] as T, index);
      } catch (error) {
        next = things.length;
        throw error;
      }
    }
  };
  for (const outcome of await Promise.allSettled(Array.from({ length: width }, worker)))
    if (outcome.status === "rejected") throw outcome.reason;
}
