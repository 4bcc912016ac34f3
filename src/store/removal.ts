// Removing what is past its life: some rows at a time, so that no statement holds up the requests beside it.

/** Rows that one statement removes; they may carry text of megabytes. */
const SWEPT_ROWS = 500;

/** Repeats a statement that removes up to `limit` rows until it finds fewer; requests that came meanwhile go first. */
export async function removeInPortions(
  remove: (limit: number) => Promise<{ numDeletedRows: bigint }>,
): Promise<void> {
  for (;;) {
    const { numDeletedRows } = await remove(SWEPT_ROWS);
    if (numDeletedRows < BigInt(SWEPT_ROWS)) return;
    await new Promise((resolve) => setImmediate(resolve));
  }
}
