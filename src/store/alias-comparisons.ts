// What shadows answered beside the models that their aliases lead to: one row a request, the newest ones, and counts on the alias.
import type { Selectable } from "kysely";
import { sql } from "kysely";
import { newId } from "../wire/ids.ts";
import { removeAllBut } from "./alias-rows.ts";
import type { Database } from "./database.ts";
import type { AliasComparisonsTable } from "./tables.ts";
import { pageOf, placeOf } from "./page.ts";
import type { Page, PageRequest } from "./page.ts";

export interface Comparison {
  id: string;
  /** Unix seconds. */
  createdAt: number;
  requestId: string;
  model: string;
  candidate: string;
  equal: boolean;
  /** Of the two answers, 0 to 1. */
  similarity: number;
  question: string;
  answer: string;
  candidateAnswer: string;
  completionTokens: number;
  candidateCompletionTokens: number;
}

/** Rows of an alias, at most 12 kB each; the counts on the alias go on. */
export const MAX_COMPARISONS_PER_ALIAS = 1000;

export class AliasComparisonStore {
  readonly #database: Database;
  readonly #now: () => number;

  constructor(database: Database, now: () => number = Date.now) {
    this.#database = database;
    this.#now = now;
  }

  /** False where the alias leads elsewhere by now, or tries out something else: then the row would be counted for what it is not. */
  async add(
    { projectId, name }: { projectId: string; name: string },
    comparison: Omit<Comparison, "id" | "createdAt">,
  ): Promise<boolean> {
    const { equal, similarity, ...rest } = comparison;
    return this.#database.transaction().execute(async (transaction) => {
      const counted = await transaction
        .updateTable("aliases")
        .set({
          compared: sql`compared + 1`,
          equal: sql`equal + ${Number(equal)}`,
          similaritySum: sql`similarity_sum + ${similarity}`,
        })
        .where("projectId", "=", projectId)
        .where("name", "=", name)
        .where("model", "=", comparison.model)
        .where("candidate", "=", comparison.candidate)
        .executeTakeFirst();
      if (counted.numUpdatedRows === 0n) return false;
      await transaction
        .insertInto("aliasComparisons")
        .values({
          ...{ id: newId("aliasComparison"), projectId, name, createdAt: Math.floor(this.#now() / 1000) },
          ...{ ...rest, equal: Number(equal), similarity },
        })
        .execute();
      await removeAllBut(transaction, "aliasComparisons", { projectId, name }, MAX_COMPARISONS_PER_ALIAS);
      return true;
    });
  }

  /** Newest first. */
  async list(projectId: string, name: string, page: PageRequest): Promise<Page<Comparison>> {
    let query = this.#database
      .selectFrom("aliasComparisons")
      .selectAll()
      .where("projectId", "=", projectId)
      .where("name", "=", name)
      .orderBy("sequence", "desc")
      .limit(page.limit + 1);
    if (page.after !== undefined) {
      const place = await placeOf(this.#database, "aliasComparisons", { projectId, name }, page.after);
      query = query.where("sequence", "<", place);
    }
    return pageOf((await query.execute()).map(toComparison), page.limit);
  }
}

function toComparison(row: Selectable<AliasComparisonsTable>): Comparison {
  const { sequence: _sequence, projectId: _projectId, name: _name, equal, ...rest } = row;
  return { ...rest, equal: equal === 1 };
}
