// Projects: who objects and keys belong to. The default one is there from the start; none is ever removed.
import type { Selectable } from "kysely";
import { Conflict } from "../errors.ts";
import { newId } from "../wire/ids.ts";
import type { Database } from "./database.ts";
import type { ProjectsTable } from "./tables.ts";
import { pageOf, placeOf } from "./page.ts";
import type { Page, PageRequest } from "./page.ts";

export interface Project {
  id: string;
  /** Unix seconds. */
  createdAt: number;
  name: string;
}

export class ProjectStore {
  readonly #database: Database;
  readonly #now: () => number;

  constructor(database: Database, now: () => number = Date.now) {
    this.#database = database;
    this.#now = now;
  }

  /** Throws Conflict when the wanted id is taken. */
  async create(project: { name: string; id: string | null }): Promise<Project> {
    const row = await this.#database
      .insertInto("projects")
      .values({
        id: project.id ?? newId("project"),
        createdAt: Math.floor(this.#now() / 1000),
        name: project.name,
      })
      .onConflict((conflict) => conflict.column("id").doNothing())
      .returningAll()
      .executeTakeFirst();
    if (row === undefined) {
      throw new Conflict(`There is already a project ${project.id}. Use it, or choose another id.`, {
        param: "id",
      });
    }
    return toProject(row);
  }

  async exists(id: string): Promise<boolean> {
    const row = await this.#database
      .selectFrom("projects")
      .select("id")
      .where("id", "=", id)
      .executeTakeFirst();
    return row !== undefined;
  }

  /** Newest first. */
  async list(page: PageRequest): Promise<Page<Project>> {
    let query = this.#database
      .selectFrom("projects")
      .selectAll()
      .orderBy("sequence", "desc")
      .limit(page.limit + 1);
    if (page.after !== undefined) {
      const place = await placeOf(this.#database, "projects", {}, page.after);
      query = query.where("sequence", "<", place);
    }
    return pageOf((await query.execute()).map(toProject), page.limit);
  }
}

function toProject({ id, createdAt, name }: Selectable<ProjectsTable>): Project {
  return { id, createdAt, name };
}
