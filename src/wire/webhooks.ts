// Webhooks: what a client registers (our addition: OpenAI's are made on its web site) and the events that are sent, whose form
// is OpenAI's. Signatures are made in jobs/webhook-delivery.ts.
import { z } from "zod";
import { listSchema } from "./list.ts";
import { storedText } from "./validation.ts";

export const WEBHOOK_EVENT_TYPES = [
  "fine_tuning.job.succeeded",
  "fine_tuning.job.failed",
  "fine_tuning.job.cancelled",
  "batch.completed",
  "batch.failed",
  "batch.expired",
  "batch.cancelled",
] as const;
export type WebhookEventType = (typeof WEBHOOK_EVENT_TYPES)[number];

/** Longer addresses are a mistake; this is what browsers and proxies take. */
const MAX_URL_LENGTH = 2048;

export const createWebhookRequest = z
  .strictObject({
    url: storedText().min(1).max(MAX_URL_LENGTH),
    /** Left out: all. */
    event_types: z.array(z.enum(WEBHOOK_EVENT_TYPES)).min(1).nullish(),
  })
  .meta({ id: "CreateWebhookRequest" });

export const webhookObject = z
  .object({
    id: z.string(),
    object: z.literal("tunesmith.webhook"),
    created_at: z.int(),
    url: z.string(),
    event_types: z.array(z.enum(WEBHOOK_EVENT_TYPES)).readonly(),
  })
  .meta({ id: "Webhook" });
export const webhookList = listSchema(webhookObject).meta({ id: "WebhookList" });
export type WebhookObject = z.infer<typeof webhookObject>;

/** The answer to its creation: the only one with its secret. */
export const newWebhookObject = webhookObject
  .extend({ secret: z.string().describe("Signs the deliveries; shown this once.") })
  .meta({ id: "NewWebhook" });
export type NewWebhookObject = z.infer<typeof newWebhookObject>;

/** The body of a delivery. */
export interface WebhookEvent {
  id: string;
  object: "event";
  created_at: number;
  type: WebhookEventType;
  data: { id: string };
}

export const webhookDeleted = z
  .object({ id: z.string(), object: z.literal("tunesmith.webhook.deleted"), deleted: z.literal(true) })
  .meta({ id: "WebhookDeleted" });
export type WebhookDeleted = z.infer<typeof webhookDeleted>;
