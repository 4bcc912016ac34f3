// The rows of aliases and of their log as what they mean. Who may change them, aliases.ts says.
import type { Selectable } from "kysely";
import type { AliasAction, CandidateMode } from "../wire/aliases.ts";
import type { Database, DatabaseTransaction } from "./database.ts";
import type { AliasesTable, AliasMovesTable } from "./tables.ts";

/** A second model that an alias tries out. */
export interface Candidate {
  model: string;
  mode: CandidateMode;
  /** Share of the requests, 0 to 100. */
  percent: number;
  /** Unix seconds. */
  createdAt: number;
  compared: number;
  equal: number;
  /** Of all that were compared, 0 to 1. */
  meanSimilarity: number | null;
}

export interface Alias {
  projectId: string;
  name: string;
  /** Unix seconds. */
  createdAt: number;
  movedAt: number;
  model: string;
  /** Where a rollback leads. */
  previousModel: string | null;
  candidate: Candidate | null;
}

export interface AliasMove {
  id: string;
  createdAt: number;
  action: AliasAction;
  fromModel: string | null;
  toModel: string | null;
  mode: CandidateMode | null;
  percent: number | null;
  by: string;
  reason: string | null;
}

type Reader = Pick<Database, "selectFrom">;

/** With where a rollback leads. */
export const rowsOf = (reader: Reader) =>
  reader
    .selectFrom("aliases")
    .leftJoin("aliasMoves", "aliasMoves.sequence", "aliases.lastMove")
    .selectAll("aliases")
    .select("aliasMoves.fromModel as previousModel");

/** Null when the project has none of this name. */
export async function findAlias(reader: Reader, projectId: string, name: string): Promise<Alias | null> {
  const row = await rowsOf(reader)
    .where("aliases.projectId", "=", projectId)
    .where("aliases.name", "=", name)
    .executeTakeFirst();
  return row === undefined ? null : toAlias(row);
}

export async function rowOf(
  reader: Reader,
  projectId: string,
  name: string,
): Promise<Selectable<AliasesTable> | null> {
  const row = await reader
    .selectFrom("aliases")
    .selectAll()
    .where("projectId", "=", projectId)
    .where("name", "=", name)
    .executeTakeFirst();
  return row ?? null;
}

export function toAlias(row: Selectable<AliasesTable> & { previousModel: string | null }): Alias {
  const { projectId, name, createdAt, movedAt, model, previousModel, compared, equal } = row;
  const { candidate, candidateMode, candidatePercent, candidateAt, similaritySum } = row;
  const isTried =
    candidate !== null && candidateMode !== null && candidatePercent !== null && candidateAt !== null;
  return {
    ...{ projectId, name, createdAt, movedAt, model, previousModel },
    candidate: isTried
      ? {
          ...{ model: candidate, mode: candidateMode as CandidateMode, percent: candidatePercent },
          ...{ createdAt: candidateAt, compared, equal },
          meanSimilarity: compared === 0 ? null : similaritySum / compared,
        }
      : null,
  };
}

export function toMove(row: Selectable<AliasMovesTable>): AliasMove {
  const { id, createdAt, fromModel, toModel, percent, reason } = row;
  const action = row.action as AliasAction;
  const mode = row.mode as CandidateMode | null;
  return { id, createdAt, action, fromModel, toModel, mode, percent, by: row.madeBy, reason };
}

/** Removes the oldest rows of an alias beyond so many. */
export async function removeAllBut(
  transaction: DatabaseTransaction,
  table: "aliasMoves" | "aliasComparisons",
  { projectId, name }: { projectId: string; name: string },
  kept: number,
): Promise<void> {
  const oldest = await transaction
    .selectFrom(table)
    .select("sequence")
    .where("projectId", "=", projectId)
    .where("name", "=", name)
    .orderBy("sequence", "desc")
    .offset(kept)
    .limit(1)
    .executeTakeFirst();
  if (oldest === undefined) return;
  await transaction
    .deleteFrom(table)
    .where("projectId", "=", projectId)
    .where("name", "=", name)
    .where("sequence", "<=", oldest.sequence)
    .execute();
}
