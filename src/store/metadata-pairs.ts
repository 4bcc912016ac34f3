// Metadata pairs of jobs and stored completions once more, one a row beside the object's own JSON, so that lists can go along an index:
// to look through all objects would hold up every other request.
import { sql } from "kysely";
import type { Expression, SqlBool } from "kysely";
import type { DatabaseTransaction } from "./database.ts";

type PairsTable = "fineTuningJobMetadata" | "chatCompletionMetadata";

/** Half a surrogate pair is stored as U+FFFD, so two pairs may become one. */
export async function insertPairs(
  transaction: DatabaseTransaction,
  table: PairsTable,
  { projectId, sequence }: { projectId: string; sequence: number },
  metadata: Record<string, string>,
): Promise<void> {
  const pairs = Object.entries(metadata).map(([key, value]) => ({ projectId, key, value, sequence }));
  if (pairs.length === 0) return;
  await transaction
    .insertInto(table)
    .values(pairs)
    .onConflict((conflict) => conflict.doNothing())
    .execute();
}

/** For a query over a table of pairs that it calls "pair": the same object has this pair, too. */
export function hasPairToo(
  table: PairsTable,
  projectId: string,
  [key, value]: readonly [string, string],
): Expression<SqlBool> {
  const other = (column: string) => sql.ref(`other.${column}`);
  return sql<SqlBool>`exists (select ${other("sequence")} from ${sql.table(table)} as other where ${other("projectId")} = ${projectId} and ${other("key")} = ${key} and ${other("value")} = ${value} and ${other("sequence")} = ${sql.ref("pair.sequence")})`;
}
