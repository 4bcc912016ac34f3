// API keys: only the hash of a key's secret is kept, so nobody can read it here again. A revoked key keeps its row, for whoever
// asks later who could do what. What a scope allows, it does not know.
import { createHash } from "node:crypto";
import type { Selectable } from "kysely";
import { Conflict } from "../errors.ts";
import { newId } from "../wire/ids.ts";
import type { Scope } from "../wire/keys.ts";
import type { Database, DatabaseTransaction } from "./database.ts";
import type { ApiKeysTable } from "./tables.ts";
import { pageOf, placeOf } from "./page.ts";
import type { Page, PageRequest } from "./page.ts";

export interface NewApiKey {
  projectId: string;
  name: string | null;
  scopes: readonly Scope[];
  /** Null: no limit. */
  requestsPerMinute: number | null;
  tokensPerMinute: number | null;
}

/** Times are Unix seconds. */
export interface ApiKey extends NewApiKey {
  id: string;
  createdAt: number;
  /** How the secret begins. */
  prefix: string;
  lastUsedAt: number | null;
  revokedAt: number | null;
}

/** A key that is used at all times costs one write in this time, in seconds. */
const LAST_USED_GRAIN_SECONDS = 60;

/** "sk-tunesmith-" and six characters, which leaves 250 bits unseen. */
const PREFIX_LENGTH = 19;

export class ApiKeyStore {
  readonly #database: Database;
  readonly #now: () => number;

  constructor(database: Database, now: () => number = Date.now) {
    this.#database = database;
    this.#now = now;
  }

  /**
   * The new key with its secret, which is never seen again. Throws Conflict when it would be the first key and no admin key:
   * once there are keys, only an admin key makes more. `adminElsewhere`: an admin key stands in the settings.
   */
  async create(key: NewApiKey, adminElsewhere: boolean): Promise<{ key: ApiKey; secret: string }> {
    const secret = newId("apiKeySecret");
    return this.#database.transaction().execute(async (transaction) => {
      const row = await transaction
        .insertInto("apiKeys")
        .values({
          id: newId("apiKey"),
          projectId: key.projectId,
          createdAt: this.#seconds(),
          name: key.name,
          secretSha256: sha256(secret),
          secretPrefix: secret.slice(0, PREFIX_LENGTH),
          scopes: JSON.stringify(key.scopes),
          requestsPerMinute: key.requestsPerMinute,
          tokensPerMinute: key.tokensPerMinute,
        })
        .returningAll()
        .executeTakeFirstOrThrow();
      if (!adminElsewhere && !(await hasAdmin(transaction))) {
        throw new Conflict(
          "The first key must be an admin key: once there is a key, every request needs one, and only an admin key makes more. Make a key with the scope admin first.",
          { param: "scopes" },
        );
      }
      return { key: toApiKey(row), secret };
    });
  }

  /** Null when no key that is still good has this secret. */
  async find(secret: string): Promise<ApiKey | null> {
    const row = await this.#database
      .selectFrom("apiKeys")
      .selectAll()
      .where("secretSha256", "=", sha256(secret))
      .where("revokedAt", "is", null)
      .executeTakeFirst();
    return row === undefined ? null : toApiKey(row);
  }

  /** Also one that was revoked. Null: there is no such key. */
  async get(id: string): Promise<ApiKey | null> {
    const row = await this.#database
      .selectFrom("apiKeys")
      .selectAll()
      .where("id", "=", id)
      .executeTakeFirst();
    return row === undefined ? null : toApiKey(row);
  }

  /** Notes that the key was used, unless that was noted within the last minute. */
  async touch(key: ApiKey): Promise<void> {
    const now = this.#seconds();
    if (key.lastUsedAt !== null && now - key.lastUsedAt < LAST_USED_GRAIN_SECONDS) return;
    await this.#database.updateTable("apiKeys").set({ lastUsedAt: now }).where("id", "=", key.id).execute();
  }

  /** Whether any key is good. */
  async any(): Promise<boolean> {
    const row = await this.#database
      .selectFrom("apiKeys")
      .select("id")
      .where("revokedAt", "is", null)
      .limit(1)
      .executeTakeFirst();
    return row !== undefined;
  }

  /** Newest first, revoked ones included; of one project or of all. */
  async list(page: PageRequest & { projectId?: string | undefined }): Promise<Page<ApiKey>> {
    let query = this.#database
      .selectFrom("apiKeys")
      .selectAll()
      .orderBy("sequence", "desc")
      .limit(page.limit + 1);
    if (page.projectId !== undefined) query = query.where("projectId", "=", page.projectId);
    if (page.after !== undefined) {
      const place = await placeOf(this.#database, "apiKeys", {}, page.after);
      query = query.where("sequence", "<", place);
    }
    return pageOf((await query.execute()).map(toApiKey), page.limit);
  }

  /**
   * From now on the key is refused. False when there is no such key that is still good. Throws Conflict when it is the last
   * admin key and there is none in the settings: nobody could make another, and a server without keys is open.
   */
  async revoke(id: string, adminElsewhere: boolean): Promise<boolean> {
    return this.#database.transaction().execute(async (transaction) => {
      const row = await transaction
        .updateTable("apiKeys")
        .set({ revokedAt: this.#seconds() })
        .where("id", "=", id)
        .where("revokedAt", "is", null)
        .returning("scopes")
        .executeTakeFirst();
      if (row === undefined) return false;
      const wasAdmin = (JSON.parse(row.scopes) as Scope[]).includes("admin");
      if (wasAdmin && !adminElsewhere && !(await hasAdmin(transaction))) {
        throw new Conflict(
          "This is the last admin key, and without one nobody could make keys any more. Make another admin key first, then revoke this one.",
        );
      }
      return true;
    });
  }

  #seconds(): number {
    return Math.floor(this.#now() / 1000);
  }
}

async function hasAdmin(transaction: DatabaseTransaction): Promise<boolean> {
  const rows = await transaction
    .selectFrom("apiKeys")
    .select("scopes")
    .where("revokedAt", "is", null)
    .where("scopes", "like", '%"admin"%')
    .limit(1)
    .execute();
  return rows.length > 0;
}

const sha256 = (secret: string) => createHash("sha256").update(secret).digest("hex");

function toApiKey(row: Selectable<ApiKeysTable>): ApiKey {
  return {
    id: row.id,
    projectId: row.projectId,
    createdAt: row.createdAt,
    name: row.name,
    prefix: row.secretPrefix,
    scopes: JSON.parse(row.scopes) as Scope[],
    requestsPerMinute: row.requestsPerMinute,
    tokensPerMinute: row.tokensPerMinute,
    lastUsedAt: row.lastUsedAt,
    revokedAt: row.revokedAt,
  };
}
