// Responses and the conversations they answer: keep, change while they run, read, delete. They are kept for 30 days. A response
// holds its whole conversation, so that the next one can go on from it whatever became of those before.
import type { ConversationItem, ResponseOutputItem } from "../wire/response-items.ts";
import type { ResponseObject, ResponseStatus } from "../wire/responses.ts";
import type { Database, DatabaseTransaction } from "./database.ts";
import { removeInPortions } from "./removal.ts";

export interface StoredResponse {
  response: ResponseObject;
  /** What was asked, with all that came before it. */
  input: ConversationItem[];
}

/** How long a response is kept: OpenAI's 30 days. */
export const RESPONSE_LIFE_SECONDS = 30 * 24 * 60 * 60;

/** Answers that are read at once: each may have megabytes. */
const READ_RESPONSES = 8;

const UNFINISHED: readonly ResponseStatus[] = ["queued", "in_progress"];

export class ResponseStore {
  readonly #database: Database;
  /** Milliseconds since 1970. */
  readonly #now: () => number;

  constructor(database: Database, now: () => number = Date.now) {
    this.#database = database;
    this.#now = now;
  }

  async create(projectId: string, { response, input }: StoredResponse): Promise<void> {
    await this.#database.transaction().execute(async (transaction) => {
      const { sequence } = await transaction
        .insertInto("responses")
        .values({
          id: response.id,
          projectId,
          createdAt: response.created_at,
          status: response.status,
          response: JSON.stringify(response),
          input: JSON.stringify(input),
        })
        .returning("sequence")
        .executeTakeFirstOrThrow();
      await addItems(transaction, { projectId, sequence, response });
    });
  }

  /** Null: no such response, or none any more. */
  async get(projectId: string, id: string): Promise<StoredResponse | null> {
    const row = await this.#database
      .selectFrom("responses")
      .select(["response", "input"])
      .where("projectId", "=", projectId)
      .where("id", "=", id)
      .where("createdAt", ">", this.#horizon())
      .executeTakeFirst();
    if (row === undefined) return null;
    return {
      response: JSON.parse(row.response) as ResponseObject,
      input: JSON.parse(row.input) as ConversationItem[],
    };
  }

  /**
   * Items of kept answers by their own ids, in any order; those that there are none of are left out. Every answer is read once,
   * a few at a time, so that a caller who has had enough can stop.
   */
  async *outputItems(projectId: string, ids: readonly string[]): AsyncGenerator<ResponseOutputItem> {
    if (ids.length === 0) return;
    const wanted = new Set(ids);
    const places = await this.#database
      .selectFrom("responseItems")
      .select("response")
      .distinct()
      .where("projectId", "=", projectId)
      .where("id", "in", ids)
      .execute();
    for (let start = 0; start < places.length; start += READ_RESPONSES) {
      const some = places.slice(start, start + READ_RESPONSES).map(({ response }) => response);
      const rows = await this.#database
        .selectFrom("responses")
        .select("response")
        .where("sequence", "in", some)
        .where("createdAt", ">", this.#horizon())
        .execute();
      for (const row of rows) {
        const { output } = JSON.parse(row.response) as ResponseObject;
        yield* output.filter(({ id }) => wanted.has(id));
      }
    }
  }

  /** Replaces a response that has not ended. False: it has, or it is gone. */
  async update(projectId: string, response: ResponseObject): Promise<boolean> {
    return this.#database.transaction().execute(async (transaction) => {
      const row = await transaction
        .updateTable("responses")
        .set({ status: response.status, response: JSON.stringify(response) })
        .where("projectId", "=", projectId)
        .where("id", "=", response.id)
        .where("status", "in", UNFINISHED)
        .returning("sequence")
        .executeTakeFirst();
      if (row === undefined) return false;
      await addItems(transaction, { projectId, sequence: row.sequence, response });
      return true;
    });
  }

  /** False: no such response. */
  async delete(projectId: string, id: string): Promise<boolean> {
    const deleted = await this.#database
      .deleteFrom("responses")
      .where("projectId", "=", projectId)
      .where("id", "=", id)
      .where("createdAt", ">", this.#horizon())
      .executeTakeFirst();
    return deleted.numDeletedRows > 0n;
  }

  /** Ends what an earlier process of this server left unfinished. */
  async failUnfinished(error: NonNullable<ResponseObject["error"]>): Promise<void> {
    const failed: ResponseStatus = "failed";
    await this.#database.transaction().execute(async (transaction) => {
      const rows = await transaction
        .selectFrom("responses")
        .select(["sequence", "response"])
        .where("status", "in", UNFINISHED)
        .execute();
      for (const { sequence, response } of rows) {
        const ended = { ...(JSON.parse(response) as ResponseObject), status: failed, error };
        await transaction
          .updateTable("responses")
          .set({ status: failed, response: JSON.stringify(ended) })
          .where("sequence", "=", sequence)
          .execute();
      }
    });
  }

  /** Removes responses past their life. */
  async sweep(): Promise<void> {
    await removeInPortions((limit) =>
      this.#database
        .deleteFrom("responses")
        .where("sequence", "in", (query) =>
          query
            .selectFrom("responses")
            .select("sequence")
            .where("createdAt", "<=", this.#horizon())
            .orderBy("createdAt")
            .limit(limit),
        )
        .executeTakeFirst(),
    );
  }

  /** What was created then, or earlier, is past its life; Unix seconds. */
  #horizon(): number {
    return Math.floor(this.#now() / 1000) - RESPONSE_LIFE_SECONDS;
  }
}

/** Notes where the items of an answer are found. */
async function addItems(
  transaction: DatabaseTransaction,
  { projectId, sequence, response }: { projectId: string; sequence: number; response: ResponseObject },
): Promise<void> {
  for (const { id } of response.output) {
    await transaction.insertInto("responseItems").values({ projectId, id, response: sequence }).execute();
  }
}
