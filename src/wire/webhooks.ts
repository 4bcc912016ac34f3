// Webhooks: what a client registers (our addition: OpenAI's are made on its web site) and the events that are sent, whose form
// is OpenAI's. Signatures are made in jobs/webhook-delivery.ts.
import { z } from "zod";

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

export const createWebhookRequest = z.strictObject({
  url: z.string().min(1).max(MAX_URL_LENGTH),
  /** Left out: all. */
  event_types: z.array(z.enum(WEBHOOK_EVENT_TYPES)).min(1).nullish(),
});

export interface WebhookObject {
  id: string;
  object: "tunesmith.webhook";
  created_at: number;
  url: string;
  event_types: readonly WebhookEventType[];
  /** In the answer to its creation only. */
  secret?: string;
}

/** The body of a delivery. */
export interface WebhookEvent {
  id: string;
  object: "event";
  created_at: number;
  type: WebhookEventType;
  data: { id: string };
}

export interface WebhookDeleted {
  id: string;
  object: "tunesmith.webhook.deleted";
  deleted: true;
}
