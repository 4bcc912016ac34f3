// Which fine-tuned models a project may use, and which aliases hold a model fast: what models.ts and aliases.ts both ask.
import { sql } from "kysely";
import type { Expression, SqlBool } from "kysely";
import { parseModelName } from "../wire/model-names.ts";
import type { DatabaseTransaction } from "./database.ts";

/** OR of two indexes, not a join: a project with many permissions and one with none are both quick. */
export function usableBy(projectId: string): Expression<SqlBool> {
  return sql<SqlBool>`(project_id = ${projectId} OR id IN (SELECT model FROM checkpoint_permissions WHERE project_id = ${projectId}))`;
}

/** Whether the project may use the model, or it is no fine-tuned one. */
export async function isUsable(
  transaction: DatabaseTransaction,
  projectId: string,
  model: string,
): Promise<boolean> {
  // Base models are no rows; whoever names one has looked it up.
  if (parseModelName(model) === null) return true;
  const row = await transaction
    .selectFrom("models")
    .select("id")
    .where(usableBy(projectId))
    .where("id", "=", model)
    .where("deletedAt", "is", null)
    .executeTakeFirst();
  return row !== undefined;
}

/** An alias that leads to the model or tries it out, in any project. */
export async function aliasOf(
  transaction: DatabaseTransaction,
  model: string,
): Promise<{ projectId: string; name: string } | null> {
  const row = await transaction
    .selectFrom("aliases")
    .select(["projectId", "name"])
    .where((any) => any.or([any("model", "=", model), any("candidate", "=", model)]))
    .executeTakeFirst();
  return row ?? null;
}
