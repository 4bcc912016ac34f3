// Cursors of lists: an element's id stands for its place in the order of creation.
import { InvalidRequest } from "../errors.ts";

export interface Page<T> {
  data: T[];
  hasMore: boolean;
}

export interface PageRequest {
  limit: number;
  /** The id of the last element already seen. */
  after?: string | undefined;
}

/** A page from one row more than its limit. */
export function pageOf<T>(rows: T[], limit: number): Page<T> {
  return { data: rows.slice(0, limit), hasMore: rows.length > limit };
}

/** Deleted files stay known, so a list can be walked while its elements are deleted; an id that never was is a mistake worth telling. */
export function unknownCursor(after: string): InvalidRequest {
  return new InvalidRequest(
    `Invalid 'after': no element of this list has the id '${after.slice(0, 80)}'. Send the id of the last element of the previous page.`,
    { param: "after", code: "invalid_value" },
  );
}
