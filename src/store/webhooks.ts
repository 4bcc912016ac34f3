// Webhooks and their outbox. A delivery is written in the transaction that changes the status it tells of, so it is neither
// lost nor sent for a change that never came to be; it goes when it was delivered. It knows no HTTP.
//
// Secrets stand here as they are: signing needs them.
import { randomBytes } from "node:crypto";
import type { Selectable } from "kysely";
import { InvalidRequest } from "../errors.ts";
import { newId } from "../wire/ids.ts";
import type { WebhookEvent, WebhookEventType } from "../wire/webhooks.ts";
import type { Database, DatabaseTransaction } from "./database.ts";
import type { WebhooksTable } from "./tables.ts";

export interface Webhook {
  id: string;
  projectId: string;
  /** Unix seconds. */
  createdAt: number;
  url: string;
  eventTypes: readonly WebhookEventType[];
  /** whsec_… */
  secret: string;
}

/** One event on its way to one webhook. */
export interface Delivery {
  /** The same at every attempt: receivers know repetitions by it. */
  id: string;
  url: string;
  secret: string;
  body: string;
  /** This one included. */
  attempts: number;
}

/** Enough for every service that listens; each event is written once for each. */
const MAX_WEBHOOKS_PER_PROJECT = 20;

/** A receiver that is down for long loses what comes beyond this, so that it cannot fill the disk: about 5 MB. */
const MAX_PENDING_DELIVERIES = 10_000;

/** Of the secret, in bytes: that of the signature's hash. */
const SECRET_BYTES = 32;

export class WebhookStore {
  readonly #database: Database;
  /** Milliseconds since 1970. */
  readonly #now: () => number;

  constructor(database: Database, now: () => number = Date.now) {
    this.#database = database;
    this.#now = now;
  }

  /** Throws InvalidRequest when the project has too many. */
  async create(
    projectId: string,
    { url, eventTypes }: Pick<Webhook, "url" | "eventTypes">,
  ): Promise<Webhook> {
    return this.#database.transaction().execute(async (transaction) => {
      const row = await transaction
        .insertInto("webhooks")
        .values({
          id: newId("webhook"),
          projectId,
          createdAt: Math.floor(this.#now() / 1000),
          url,
          eventTypes: JSON.stringify(eventTypes),
          secret: `whsec_${randomBytes(SECRET_BYTES).toString("base64")}`,
        })
        .returningAll()
        .executeTakeFirstOrThrow();
      const { count } = await transaction
        .selectFrom("webhooks")
        .select((select) => select.fn.countAll<number>().as("count"))
        .where("projectId", "=", projectId)
        .executeTakeFirstOrThrow();
      if (count > MAX_WEBHOOKS_PER_PROJECT) {
        throw new InvalidRequest(
          `This project has ${MAX_WEBHOOKS_PER_PROJECT} webhooks already, the most that it may have. Delete one first.`,
        );
      }
      return toWebhook(row);
    });
  }

  /** In the order of creation: there are too few for pages. */
  async list(projectId: string): Promise<Webhook[]> {
    const rows = await this.#database
      .selectFrom("webhooks")
      .selectAll()
      .where("projectId", "=", projectId)
      .orderBy("sequence", "asc")
      .execute();
    return rows.map(toWebhook);
  }

  /** With everything that is on its way to it. False when there was none. */
  async delete(projectId: string, id: string): Promise<boolean> {
    return this.#database.transaction().execute(async (transaction) => {
      const found = await transaction
        .updateTable("webhooks")
        .set({ url: "" })
        .where("projectId", "=", projectId)
        .where("id", "=", id)
        .executeTakeFirst();
      if (found.numUpdatedRows === 0n) return false;
      await transaction.deleteFrom("webhookDeliveries").where("webhookId", "=", id).execute();
      await transaction.deleteFrom("webhooks").where("id", "=", id).execute();
      return true;
    });
  }

  /**
   * Deliveries whose time has come, oldest first. Each comes up again at `againAtMs` unless something is said of it before: what
   * a killed sender had taken is not lost.
   */
  async takeDue(limit: number, againAtMs: number): Promise<Delivery[]> {
    return this.#database.transaction().execute(async (transaction) => {
      const taken = await transaction
        .updateTable("webhookDeliveries")
        .set((set) => ({ nextAttemptAtMs: againAtMs, attempts: set("attempts", "+", 1) }))
        .where("sequence", "in", (select) =>
          select
            .selectFrom("webhookDeliveries")
            .select("sequence")
            .where("nextAttemptAtMs", "<=", this.#now())
            .orderBy("nextAttemptAtMs")
            .limit(limit),
        )
        .returning("id")
        .execute();
      if (taken.length === 0) return [];
      return transaction
        .selectFrom("webhookDeliveries")
        .innerJoin("webhooks", "webhooks.id", "webhookDeliveries.webhookId")
        .select([
          "webhookDeliveries.id",
          "webhookDeliveries.body",
          "webhookDeliveries.attempts",
          "webhooks.url",
          "webhooks.secret",
        ])
        .where(
          "webhookDeliveries.id",
          "in",
          taken.map(({ id }) => id),
        )
        .orderBy("webhookDeliveries.sequence")
        .execute();
    });
  }

  async retryAt(deliveryId: string, nextAttemptAtMs: number): Promise<void> {
    await this.#database
      .updateTable("webhookDeliveries")
      .set({ nextAttemptAtMs })
      .where("id", "=", deliveryId)
      .execute();
  }

  /** It was delivered, or given up. */
  async remove(deliveryId: string): Promise<void> {
    await this.#database.deleteFrom("webhookDeliveries").where("id", "=", deliveryId).execute();
  }
}

/** Puts an event into the outbox, once for each webhook of the project that wants it. */
export async function queueWebhookEvent(
  transaction: DatabaseTransaction,
  event: { projectId: string; type: WebhookEventType; /** Of the job or batch. */ objectId: string },
  nowMs: number,
): Promise<void> {
  const webhooks = await transaction
    .selectFrom("webhooks")
    .selectAll()
    .where("projectId", "=", event.projectId)
    .execute();
  const createdAt = Math.floor(nowMs / 1000);
  const told: WebhookEvent = {
    id: newId("webhookEvent"),
    object: "event",
    created_at: createdAt,
    type: event.type,
    data: { id: event.objectId },
  };
  for (const webhook of webhooks.map(toWebhook)) {
    if (!webhook.eventTypes.includes(event.type)) continue;
    const { count } = await transaction
      .selectFrom("webhookDeliveries")
      .select((select) => select.fn.countAll<number>().as("count"))
      .where("webhookId", "=", webhook.id)
      .executeTakeFirstOrThrow();
    if (count >= MAX_PENDING_DELIVERIES) continue;
    await transaction
      .insertInto("webhookDeliveries")
      .values({
        id: newId("webhookDelivery"),
        projectId: event.projectId,
        webhookId: webhook.id,
        createdAt,
        body: JSON.stringify(told),
        attempts: 0,
        nextAttemptAtMs: nowMs,
      })
      .execute();
  }
}

function toWebhook(row: Selectable<WebhooksTable>): Webhook {
  return {
    id: row.id,
    projectId: row.projectId,
    createdAt: row.createdAt,
    url: row.url,
    eventTypes: JSON.parse(row.eventTypes) as WebhookEventType[],
    secret: row.secret,
  };
}
