// Cursors of lists: an element's id stands for its place in the order of creation.
import { sql } from "kysely";
import { InvalidRequest } from "../errors.ts";
import type { Database } from "./database.ts";

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

/** Tables whose rows have ids and an order of creation. */
type ListedTable =
  | "files"
  | "fineTuningJobs"
  | "fineTuningEvents"
  | "fineTuningCheckpoints"
  | "chatCompletions"
  | "batches"
  | "projects"
  | "apiKeys"
  | "checkpointPermissions"
  | "aliasMoves"
  | "aliasComparisons";

/**
 * The place of an element in the order of creation, deleted or not; `within`: whose list it must be in. Throws InvalidRequest for an
 * id that the list never had.
 */
export async function placeOf(
  database: Database,
  table: ListedTable,
  within: { projectId?: string; jobId?: string; model?: string; name?: string },
  id: string,
): Promise<number> {
  // All of them have both columns.
  let query = database.selectFrom(table as "files").select("sequence");
  for (const [column, value] of Object.entries(within)) query = query.where(sql.ref(column), "=", value);
  const row = await query.where("id", "=", id).executeTakeFirst();
  if (row === undefined) throw unknownCursor(id);
  return row.sequence;
}
