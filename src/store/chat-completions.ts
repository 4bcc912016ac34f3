// Chat completions that a request asked to store: keep, read, list, label, delete. They are kept for 30 days. Their text is
// opaque here; what lists filter by stands in columns and in a table of its own.
import type { ChatRequestMessage } from "../wire/chat.ts";
import type { StoredChatCompletion } from "../wire/stored-completions.ts";
import type { Database, DatabaseTransaction } from "./database.ts";
import { hasPairToo, insertPairs } from "./metadata-pairs.ts";
import { placeOf } from "./page.ts";
import type { Page, PageRequest } from "./page.ts";
import { removeInPortions } from "./removal.ts";

type Metadata = Record<string, string>;

export interface NewChatCompletion {
  projectId: string;
  completion: StoredChatCompletion;
  messages: readonly ChatRequestMessage[];
}

interface ListRequest extends PageRequest {
  order: "asc" | "desc";
  model?: string | undefined;
  metadata?: Metadata | undefined;
}

/** How long a completion is kept: OpenAI's 30 days. */
export const COMPLETION_LIFE_SECONDS = 30 * 24 * 60 * 60;

/** A page ends early, and says that there is more, before its completions are longer than this together. */
const MAX_COMPLETIONS_PAGE_BYTES = 16 * 1024 * 1024;

export class ChatCompletionStore {
  readonly #database: Database;
  /** Milliseconds since 1970. */
  readonly #now: () => number;

  constructor(database: Database, now: () => number = Date.now) {
    this.#database = database;
    this.#now = now;
  }

  async create({ projectId, completion, messages }: NewChatCompletion): Promise<void> {
    const { metadata, ...rest } = completion;
    const text = JSON.stringify(rest);
    await this.#database.transaction().execute(async (transaction) => {
      const { sequence } = await transaction
        .insertInto("chatCompletions")
        .values({
          id: completion.id,
          projectId,
          createdAt: completion.created,
          model: completion.model,
          metadata: JSON.stringify(metadata),
          bytes: Buffer.byteLength(text),
          completion: text,
          messages: JSON.stringify(messages),
        })
        .returning("sequence")
        .executeTakeFirstOrThrow();
      await insertPairs(transaction, "chatCompletionMetadata", { projectId, sequence }, metadata);
    });
  }

  /** Null: no such completion. */
  async get(projectId: string, id: string): Promise<StoredChatCompletion | null> {
    const row = await this.#database
      .selectFrom("chatCompletions")
      .select(["completion", "metadata"])
      .where("projectId", "=", projectId)
      .where("id", "=", id)
      .where("deletedAt", "is", null)
      .executeTakeFirst();
    return row === undefined ? null : toCompletion(row);
  }

  /** What the model was given. Null: no such completion. */
  async messages(projectId: string, id: string): Promise<ChatRequestMessage[] | null> {
    const row = await this.#database
      .selectFrom("chatCompletions")
      .select("messages")
      .where("projectId", "=", projectId)
      .where("id", "=", id)
      .where("deletedAt", "is", null)
      .executeTakeFirst();
    return row === undefined ? null : (JSON.parse(row.messages) as ChatRequestMessage[]);
  }

  /** `metadata`: pairs that must all match. */
  async list(projectId: string, page: ListRequest): Promise<Page<StoredChatCompletion>> {
    const rows = await this.#sizes(projectId, page);
    let bytes = 0;
    const wanted = rows.slice(0, page.limit).filter((row, index) => {
      bytes += row.bytes;
      return index === 0 || bytes <= MAX_COMPLETIONS_PAGE_BYTES;
    });
    const found = await this.#database
      .selectFrom("chatCompletions")
      .select(["completion", "metadata"])
      .where(
        "sequence",
        "in",
        wanted.map(({ sequence }) => sequence),
      )
      .orderBy("sequence", page.order)
      .execute();
    return { data: found.map(toCompletion), hasMore: rows.length > wanted.length };
  }

  /** One row more than the page, where there are so many. */
  async #sizes(projectId: string, page: ListRequest): Promise<{ sequence: number; bytes: number }[]> {
    const { order, limit, after, model, metadata = {} } = page;
    const cursor =
      after === undefined ? null : await placeOf(this.#database, "chatCompletions", { projectId }, after);
    const beyond = order === "asc" ? ">" : "<";
    const [first, ...others] = Object.entries(metadata);
    if (first === undefined) {
      let query = this.#database
        .selectFrom("chatCompletions")
        .select(["sequence", "bytes"])
        .where("projectId", "=", projectId)
        .where("deletedAt", "is", null)
        .orderBy("sequence", order)
        .limit(limit + 1);
      if (model !== undefined) query = query.where("model", "=", model);
      if (cursor !== null) query = query.where("sequence", beyond, cursor);
      return query.execute();
    }
    // Along the pairs, in the order of their index: to look through all completions would hold up every other request. A
    // deleted completion has none.
    let query = this.#database
      .selectFrom("chatCompletionMetadata as pair")
      .innerJoin("chatCompletions as completion", "completion.sequence", "pair.sequence")
      .select(["completion.sequence", "completion.bytes"])
      .where("pair.projectId", "=", projectId)
      .where("pair.key", "=", first[0])
      .where("pair.value", "=", first[1])
      .orderBy("pair.sequence", order)
      .limit(limit + 1);
    for (const pair of others) query = query.where(hasPairToo("chatCompletionMetadata", projectId, pair));
    if (model !== undefined) query = query.where("completion.model", "=", model);
    if (cursor !== null) query = query.where("pair.sequence", beyond, cursor);
    return query.execute();
  }

  /** Replaces the metadata. Null: no such completion. */
  async label(projectId: string, id: string, metadata: Metadata): Promise<StoredChatCompletion | null> {
    return this.#database.transaction().execute(async (transaction) => {
      const row = await transaction
        .updateTable("chatCompletions")
        .set({ metadata: JSON.stringify(metadata) })
        .where("projectId", "=", projectId)
        .where("id", "=", id)
        .where("deletedAt", "is", null)
        .returning(["sequence", "completion", "metadata"])
        .executeTakeFirst();
      if (row === undefined) return null;
      await removePairs(transaction, row.sequence);
      await insertPairs(
        transaction,
        "chatCompletionMetadata",
        { projectId, sequence: row.sequence },
        metadata,
      );
      return toCompletion(row);
    });
  }

  /** Removes all text at once; the id stays until the sweep, so that a list can be walked on. False: no such completion. */
  async delete(projectId: string, id: string): Promise<boolean> {
    return this.#database.transaction().execute(async (transaction) => {
      const row = await transaction
        .updateTable("chatCompletions")
        .set({
          deletedAt: Math.floor(this.#now() / 1000),
          bytes: 0,
          completion: "",
          messages: "",
          metadata: "{}",
        })
        .where("projectId", "=", projectId)
        .where("id", "=", id)
        .where("deletedAt", "is", null)
        .returning("sequence")
        .executeTakeFirst();
      if (row === undefined) return false;
      await removePairs(transaction, row.sequence);
      return true;
    });
  }

  /** Removes what is older than 30 days. */
  async sweep(): Promise<void> {
    const cutoff = Math.floor(this.#now() / 1000) - COMPLETION_LIFE_SECONDS;
    await removeInPortions((limit) =>
      this.#database
        .deleteFrom("chatCompletions")
        .where("sequence", "in", (select) =>
          select
            .selectFrom("chatCompletions")
            .select("sequence")
            .where("createdAt", "<=", cutoff)
            .limit(limit),
        )
        .executeTakeFirst(),
    );
  }
}

async function removePairs(transaction: DatabaseTransaction, sequence: number): Promise<void> {
  await transaction.deleteFrom("chatCompletionMetadata").where("sequence", "=", sequence).execute();
}

function toCompletion(row: { completion: string; metadata: string }): StoredChatCompletion {
  const completion = JSON.parse(row.completion) as Omit<StoredChatCompletion, "metadata">;
  return { ...completion, metadata: JSON.parse(row.metadata) as Metadata };
}
