// The sender of webhooks: takes deliveries from the outbox when their time has come, and tries each until it is received or
// given up. At least once: what was sent when the server was killed is sent again, under the same id.
import { messageOf } from "../errors.ts";
import type { Delivery, WebhookStore } from "../store/webhooks.ts";
import type { SendWebhook } from "./webhook-request.ts";
import { SYSTEM_CLOCK, type Clock, type Logger, type Worker } from "./worker.ts";

/** Attempts of one delivery: with the pauses below they reach over three days, as OpenAI's do. */
export const MAX_DELIVERY_ATTEMPTS = 13;
const FIRST_RETRY_MS = 5_000;
const RETRY_FACTOR = 4;
const LONGEST_RETRY_MS = 12 * 60 * 60 * 1000;
/** Share of a pause that is random, so that a receiver that comes back is not met by everything at once. */
const RETRY_JITTER = 0.2;

/** A receiver acknowledges and works afterwards; one that takes longer is tried again. */
const DELIVERY_TIMEOUT_MS = 15_000;

/** Deliveries on their way at a time: a few slow receivers do not hold up the others. */
const MAX_DELIVERIES_IN_FLIGHT = 16;

/** How often an idle sender looks into the outbox; one look at an index. */
const OUTBOX_INTERVAL_MS = 1_000;

/** A delivery that a killed sender had taken comes up again after this: longer than any attempt takes. */
const TAKEN_FOR_MS = 60_000;

/** The pause after this many attempts. `random` is from 0 to 1. */
export function retryDelayMs(attempts: number, random: number): number {
  const pause = Math.min(FIRST_RETRY_MS * RETRY_FACTOR ** (attempts - 1), LONGEST_RETRY_MS);
  return Math.round(pause * (1 - RETRY_JITTER / 2 + RETRY_JITTER * random));
}

export function createWebhookDelivery(options: {
  webhooks: WebhookStore;
  send: SendWebhook;
  logger: Logger;
  clock?: Clock;
  random?: () => number;
}): Worker {
  const { webhooks, send, logger, clock = SYSTEM_CLOCK, random = Math.random } = options;
  const stopping = new AbortController();
  const inFlight = new Set<Promise<void>>();
  let nap = new AbortController();
  let loop: Promise<void> | null = null;

  async function loopUntilStopped(): Promise<void> {
    while (!stopping.signal.aborted) {
      const room = MAX_DELIVERIES_IN_FLIGHT - inFlight.size;
      let taken = 0;
      try {
        const due = room === 0 ? [] : await webhooks.takeDue(room, clock.now() + TAKEN_FOR_MS);
        taken = due.length;
        for (const delivery of due) {
          const one = deliver(delivery)
            .catch((error: unknown) =>
              logger.error({ error: messageOf(error) }, "The outcome of a webhook could not be kept."),
            )
            .finally(() => {
              inFlight.delete(one);
              nap.abort();
            });
          inFlight.add(one);
        }
      } catch (error) {
        logger.error({ error: messageOf(error) }, "Could not look into the outbox of webhooks.");
      }
      if (taken === 0) await clock.delay(OUTBOX_INTERVAL_MS, AbortSignal.any([nap.signal, stopping.signal]));
      nap = new AbortController();
    }
    await Promise.all(inFlight);
  }

  async function deliver(delivery: Delivery): Promise<void> {
    const attempt = new AbortController();
    const done = new AbortController();
    const timeout = clock.delay(DELIVERY_TIMEOUT_MS, done.signal).then(() => attempt.abort("timeout"));
    const problem = await send(
      delivery,
      clock.now(),
      AbortSignal.any([attempt.signal, stopping.signal]),
    ).then(
      (status) => (status >= 200 && status < 300 ? null : `it answered ${status}`),
      (error: unknown) =>
        attempt.signal.aborted ? `no answer within ${DELIVERY_TIMEOUT_MS / 1000} seconds` : messageOf(error),
    );
    done.abort();
    await timeout;
    if (problem === null) return webhooks.remove(delivery.id);
    // Not the receiver's fault: the next start tries at once.
    if (stopping.signal.aborted) return webhooks.retryAt(delivery.id, clock.now());
    const { host } = new URL(delivery.url);
    const details = { delivery: delivery.id, host, attempts: delivery.attempts, problem };
    if (delivery.attempts >= MAX_DELIVERY_ATTEMPTS) {
      logger.error(details, "A webhook was given up.");
      return webhooks.remove(delivery.id);
    }
    logger.warn(details, "A webhook could not be delivered; it is tried again later.");
    return webhooks.retryAt(delivery.id, clock.now() + retryDelayMs(delivery.attempts, random()));
  }

  return {
    start() {
      loop ??= loopUntilStopped();
    },
    wake() {
      nap.abort();
    },
    async stop() {
      stopping.abort();
      await loop;
    },
  };
}
