// /tunesmith/webhooks: registering, listing and deleting webhooks. Who sends to them it does not know.
import type { FastifyRequest } from "fastify";
import { InvalidRequest, NotFound } from "../errors.ts";
import type { Webhook, WebhookStore } from "../store/webhooks.ts";
import { listOf } from "../wire/list.ts";
import type { List } from "../wire/list.ts";
import { parseRequest } from "../wire/validation.ts";
import { targetFault } from "../wire/webhook-targets.ts";
import { createWebhookRequest, WEBHOOK_EVENT_TYPES } from "../wire/webhooks.ts";
import type { NewWebhookObject, WebhookDeleted, WebhookObject } from "../wire/webhooks.ts";

export function webhookRoutes(parts: { webhooks: WebhookStore; webhookPrivateHosts: readonly string[] }) {
  const { webhooks, webhookPrivateHosts } = parts;
  return {
    create: async (request: FastifyRequest): Promise<NewWebhookObject> => {
      const body = parseRequest(createWebhookRequest, request.body);
      const fault = targetFault(body.url, webhookPrivateHosts);
      if (fault !== null) {
        throw new InvalidRequest(`Invalid 'url': ${fault}.`, { param: "url", code: "invalid_value" });
      }
      const eventTypes = [...new Set(body.event_types ?? WEBHOOK_EVENT_TYPES)];
      const webhook = await webhooks.create(request.project, { url: body.url, eventTypes });
      return { ...toWebhookObject(webhook), secret: webhook.secret };
    },

    list: async (request: FastifyRequest): Promise<List<WebhookObject>> => {
      return listOf((await webhooks.list(request.project)).map(toWebhookObject), false);
    },

    delete: async (request: FastifyRequest): Promise<WebhookDeleted> => {
      const { webhook: id } = request.params as { webhook: string };
      if (!(await webhooks.delete(request.project, id))) {
        throw new NotFound(`No webhook found with id '${id.slice(0, 80)}'.`);
      }
      return { id, object: "tunesmith.webhook.deleted", deleted: true };
    },
  };
}

function toWebhookObject(webhook: Webhook): WebhookObject {
  return {
    id: webhook.id,
    object: "tunesmith.webhook",
    created_at: webhook.createdAt,
    url: webhook.url,
    event_types: webhook.eventTypes,
  };
}
