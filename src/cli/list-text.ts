// What stands below a list, or in its place: how to see the rest of it, and why there is nothing to see.

/** A line that says how to see the rest of a list. */
export function moreNote(hasMore: boolean, lastId: string | null | undefined, command: string): string {
  return hasMore ? `More: tunesmith ${command} --after ${lastId ?? ""}\n` : "";
}

/** Why a list is empty: it is at its end, nothing passes the filter, or there is nothing yet, and then how to make some. */
export function noneNote(
  what: string,
  asked: { after?: string | undefined; filter?: string | undefined },
  firstStep: string,
): string {
  const filtered = asked.filter === undefined ? what : `${what} ${asked.filter}`;
  if (asked.after !== undefined) return `No ${filtered} after ${asked.after}.\n`;
  return asked.filter === undefined ? `No ${what} yet. ${firstStep}\n` : `No ${filtered}.\n`;
}
