// Permissions: which projects may use a fine-tuned model beside the one it belongs to. What using means, models.ts says.
import type { Selectable } from "kysely";
import { newId } from "../wire/ids.ts";
import type { Database } from "./database.ts";
import type { CheckpointPermissionsTable } from "./tables.ts";
import { pageOf, placeOf } from "./page.ts";
import type { Page, PageRequest } from "./page.ts";

export interface CheckpointPermission {
  id: string;
  /** Unix seconds. */
  createdAt: number;
  /** The project that may use the model. */
  projectId: string;
}

export class CheckpointPermissionStore {
  readonly #database: Database;
  readonly #now: () => number;

  constructor(database: Database, now: () => number = Date.now) {
    this.#database = database;
    this.#now = now;
  }

  /** One permission for each project, all or none, in their order; a project that has one already keeps it. */
  async create(model: string, projectIds: readonly string[]): Promise<CheckpointPermission[]> {
    return this.#database.transaction().execute(async (transaction) => {
      const permissions: CheckpointPermission[] = [];
      for (const projectId of new Set(projectIds)) {
        await transaction
          .insertInto("checkpointPermissions")
          .values({
            id: newId("checkpointPermission"),
            model,
            projectId,
            createdAt: Math.floor(this.#now() / 1000),
          })
          .onConflict((conflict) => conflict.columns(["model", "projectId"]).doNothing())
          .execute();
        const row = await transaction
          .selectFrom("checkpointPermissions")
          .selectAll()
          .where("model", "=", model)
          .where("projectId", "=", projectId)
          .executeTakeFirstOrThrow();
        permissions.push(toPermission(row));
      }
      return permissions;
    });
  }

  async list(
    model: string,
    page: PageRequest & { order: "asc" | "desc"; projectId?: string | undefined },
  ): Promise<Page<CheckpointPermission>> {
    let query = this.#database
      .selectFrom("checkpointPermissions")
      .selectAll()
      .where("model", "=", model)
      .orderBy("sequence", page.order)
      .limit(page.limit + 1);
    if (page.projectId !== undefined) query = query.where("projectId", "=", page.projectId);
    if (page.after !== undefined) {
      const place = await placeOf(this.#database, "checkpointPermissions", { model }, page.after);
      query = query.where("sequence", page.order === "asc" ? ">" : "<", place);
    }
    return pageOf((await query.execute()).map(toPermission), page.limit);
  }

  /** False when the model has no such permission. */
  async delete(model: string, id: string): Promise<boolean> {
    const result = await this.#database
      .deleteFrom("checkpointPermissions")
      .where("model", "=", model)
      .where("id", "=", id)
      .executeTakeFirst();
    return result.numDeletedRows > 0n;
  }
}

function toPermission(row: Selectable<CheckpointPermissionsTable>): CheckpointPermission {
  return { id: row.id, createdAt: row.createdAt, projectId: row.projectId };
}
