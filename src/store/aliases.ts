// Aliases: names that lead to a model version. A move is one transaction with its entry in the log; moves are a stack that rollbacks
// take back one by one. How a request chooses between an alias's model and its candidate, api/alias-choice.ts says.
import type { Selectable } from "kysely";
import { Conflict, NotFound } from "../errors.ts";
import type { AliasAction } from "../wire/aliases.ts";
import { newId } from "../wire/ids.ts";
import { findAlias, removeAllBut, rowOf, rowsOf, toAlias, toMove } from "./alias-rows.ts";
import type { Alias, AliasMove, Candidate } from "./alias-rows.ts";
import type { Database, DatabaseTransaction } from "./database.ts";
import type { AliasesTable, AliasMovesTable } from "./tables.ts";
import { pageOf, placeOf } from "./page.ts";
import type { Page, PageRequest } from "./page.ts";
import { isUsable } from "./usable-models.ts";

/** Who changes an alias, and why. */
export interface Change {
  projectId: string;
  name: string;
  by: string;
  reason: string | null;
}

/** The list has no pages; a name for each customer's model is far below. */
export const MAX_ALIASES_PER_PROJECT = 1000;

/** Entries of an alias's log; then the oldest go, those that a rollback needs included. */
export const MAX_MOVES_PER_ALIAS = 10_000;

export class AliasStore {
  readonly #database: Database;
  readonly #now: () => number;

  constructor(database: Database, now: () => number = Date.now) {
    this.#database = database;
    this.#now = now;
  }

  /** Null when the project has none of this name. */
  async get(projectId: string, name: string): Promise<Alias | null> {
    return findAlias(this.#database, projectId, name);
  }

  /** All of the project's, by name. */
  async list(projectId: string): Promise<Alias[]> {
    const rows = await rowsOf(this.#database)
      .where("aliases.projectId", "=", projectId)
      .orderBy("name")
      .execute();
    return rows.map(toAlias);
  }

  /**
   * Makes the alias or moves it; one that leads there already stays as it is. Throws NotFound for a model the project may not use,
   * Conflict for a name that is or was a model's, and for too many aliases.
   */
  async set(change: Change, model: string): Promise<Alias> {
    return this.#change(change, async (transaction, alias) => {
      await requireUsable(transaction, change.projectId, model);
      if (alias === null) {
        await requireFree(transaction, change);
        await this.#log(transaction, change, { action: "created", toModel: model });
        const now = this.#seconds();
        await transaction
          .insertInto("aliases")
          .values({
            ...{ projectId: change.projectId, name: change.name, model, createdAt: now, movedAt: now },
            ...{ compared: 0, equal: 0, similaritySum: 0 },
          })
          .execute();
      } else if (alias.model !== model) {
        const { lastMove: before, model: fromModel } = alias;
        const lastMove = await this.#log(transaction, change, {
          ...{ action: "moved", fromModel, toModel: model, before },
        });
        await this.#moveTo(transaction, change, { model, lastMove });
      }
    });
  }

  /** Undoes the last move that was not undone yet. Throws NotFound, and Conflict where there is none or its model is gone. */
  async rollBack(change: Change): Promise<Alias> {
    return this.#change(change, async (transaction, alias) => {
      if (alias === null) throw unknownAlias(change.name);
      const move =
        alias.lastMove === null
          ? undefined
          : await transaction
              .selectFrom("aliasMoves")
              .select(["fromModel", "before"])
              .where("sequence", "=", alias.lastMove)
              .executeTakeFirst();
      const model = move?.fromModel ?? null;
      if (move === undefined || model === null) {
        throw new Conflict(
          `The alias '${change.name}' has not been moved since it was made, so there is nothing to roll back to. Move it by naming a model.`,
        );
      }
      if (!(await isUsable(transaction, change.projectId, model))) {
        throw new Conflict(
          `The model '${model}', which the alias '${change.name}' led to before, was deleted or may not be used any more. Move the alias by naming another model.`,
        );
      }
      await this.#log(transaction, change, { action: "rolled_back", fromModel: alias.model, toModel: model });
      await this.#moveTo(transaction, change, { model, lastMove: move.before });
    });
  }

  /** Sets or replaces the alias's candidate, or takes it away. Throws NotFound, and Conflict for the alias's own model. */
  async setCandidate(
    change: Change,
    candidate: Pick<Candidate, "model" | "mode" | "percent"> | null,
  ): Promise<Alias> {
    return this.#change(change, async (transaction, alias) => {
      if (alias === null) throw unknownAlias(change.name);
      if (candidate === null) {
        if (alias.candidate === null) return;
        await this.#log(transaction, change, { action: "candidate_removed", fromModel: alias.candidate });
        await this.#update(transaction, change, NO_CANDIDATE);
        return;
      }
      const { model, mode, percent } = candidate;
      await requireUsable(transaction, change.projectId, model);
      if (model === alias.model)
        throw new Conflict(
          `The alias '${change.name}' leads to '${model}' already. Name another model to try out.`,
        );
      const isNew = model !== alias.candidate || mode !== alias.candidateMode;
      await this.#log(transaction, change, { action: "candidate_set", toModel: model, mode, percent });
      await this.#update(transaction, change, {
        ...(isNew ? { ...NO_CANDIDATE, candidateAt: this.#seconds() } : {}),
        ...{ candidate: model, candidateMode: mode, candidatePercent: percent },
      });
    });
  }

  /** False when there was none. Its log stays. */
  async delete(change: Change): Promise<boolean> {
    return this.#database.transaction().execute(async (transaction) => {
      const alias = await rowOf(transaction, change.projectId, change.name);
      if (alias === null) return false;
      await this.#log(transaction, change, { action: "deleted", fromModel: alias.model });
      for (const table of ["aliases", "aliasComparisons"] as const) {
        await transaction
          .deleteFrom(table)
          .where("projectId", "=", change.projectId)
          .where("name", "=", change.name)
          .execute();
      }
      return true;
    });
  }

  /** The alias's log, newest first, that of deleted aliases of this name included. */
  async moves(projectId: string, name: string, page: PageRequest): Promise<Page<AliasMove>> {
    let query = this.#database
      .selectFrom("aliasMoves")
      .selectAll()
      .where("projectId", "=", projectId)
      .where("name", "=", name)
      .orderBy("sequence", "desc")
      .limit(page.limit + 1);
    if (page.after !== undefined)
      query = query.where(
        "sequence",
        "<",
        await placeOf(this.#database, "aliasMoves", { projectId, name }, page.after),
      );
    return pageOf((await query.execute()).map(toMove), page.limit);
  }

  async #change(
    change: Change,
    apply: (transaction: DatabaseTransaction, alias: Selectable<AliasesTable> | null) => Promise<void>,
  ): Promise<Alias> {
    return this.#database.transaction().execute(async (transaction) => {
      await apply(transaction, await rowOf(transaction, change.projectId, change.name));
      const alias = await findAlias(transaction, change.projectId, change.name);
      if (alias === null)
        throw new Error(`internal: the alias ${change.name} is gone within its transaction`);
      return alias;
    });
  }

  async #moveTo(
    transaction: DatabaseTransaction,
    change: Change,
    to: { model: string; lastMove: number | null },
  ): Promise<void> {
    await this.#update(transaction, change, { ...to, movedAt: this.#seconds() });
    // The candidate was taken.
    await transaction
      .updateTable("aliases")
      .set(NO_CANDIDATE)
      .where("projectId", "=", change.projectId)
      .where("name", "=", change.name)
      .where("candidate", "=", to.model)
      .execute();
  }

  async #update(
    transaction: DatabaseTransaction,
    { projectId, name }: Change,
    values: Partial<Omit<Selectable<AliasesTable>, "projectId" | "name" | "createdAt">>,
  ): Promise<void> {
    await transaction
      .updateTable("aliases")
      .set(values)
      .where("projectId", "=", projectId)
      .where("name", "=", name)
      .execute();
  }

  /** The entry's sequence. */
  async #log(
    transaction: DatabaseTransaction,
    { projectId, name, by, reason }: Change,
    entry: { action: AliasAction } & Partial<
      Pick<Selectable<AliasMovesTable>, "fromModel" | "toModel" | "mode" | "percent" | "before">
    >,
  ): Promise<number> {
    const { sequence } = await transaction
      .insertInto("aliasMoves")
      .values({
        ...{ id: newId("aliasMove"), projectId, name, createdAt: this.#seconds() },
        ...{ fromModel: null, toModel: null, mode: null, percent: null, before: null, madeBy: by, reason },
        ...entry,
      })
      .returning("sequence")
      .executeTakeFirstOrThrow();
    await removeAllBut(transaction, "aliasMoves", { projectId, name }, MAX_MOVES_PER_ALIAS);
    return sequence;
  }

  #seconds(): number {
    return Math.floor(this.#now() / 1000);
  }
}

const NO_CANDIDATE = {
  ...{ candidate: null, candidateMode: null, candidatePercent: null, candidateAt: null },
  ...{ compared: 0, equal: 0, similaritySum: 0 },
} as const;

async function requireUsable(
  transaction: DatabaseTransaction,
  projectId: string,
  model: string,
): Promise<void> {
  if (await isUsable(transaction, projectId, model)) return;
  throw new NotFound(`The model '${model}' does not exist`, { code: "model_not_found", param: "model" });
}

async function requireFree(
  transaction: DatabaseTransaction,
  { projectId, name }: Pick<Change, "projectId" | "name">,
): Promise<void> {
  const model = await transaction.selectFrom("models").select("id").where("id", "=", name).executeTakeFirst();
  if (model !== undefined) {
    throw new Conflict(
      `The name '${name}' is or was that of a fine-tuned model of this server, and stays it. Choose another name.`,
    );
  }
  const { count } = await transaction
    .selectFrom("aliases")
    .select(({ fn }) => fn.countAll<number>().as("count"))
    .where("projectId", "=", projectId)
    .executeTakeFirstOrThrow();
  if (count >= MAX_ALIASES_PER_PROJECT) {
    throw new Conflict(
      `The project has ${count} aliases, the most it may have. Delete one that nobody uses any more.`,
    );
  }
}

export function unknownAlias(name: string): NotFound {
  return new NotFound(`No alias found with the name '${name.slice(0, 80)}'.`);
}
