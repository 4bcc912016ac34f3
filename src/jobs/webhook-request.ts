// One attempt to deliver a webhook: the signed request of Standard Webhooks (standardwebhooks.com, version 1), sent to an
// address that was looked at after its name was resolved, so that no name can lead into a private network.
import { createHmac } from "node:crypto";
import { lookup } from "node:dns";
import type { LookupAddress } from "node:dns";
import { request as httpRequest } from "node:http";
import { request as httpsRequest } from "node:https";
import { isIP } from "node:net";
import type { LookupFunction } from "node:net";
import { Unavailable } from "../errors.ts";
import type { Delivery } from "../store/webhooks.ts";
import { hostOf, isPublicAddress, notPublic, targetFault } from "../wire/webhook-targets.ts";

/** Sends a delivery once and gives back the status. Rejects when there was no answer. */
export type SendWebhook = (delivery: Delivery, atMs: number, signal: AbortSignal) => Promise<number>;

/** The headers that prove who sent the body. */
export function signedHeaders(
  { id, secret, body }: Pick<Delivery, "id" | "secret" | "body">,
  atMs: number,
): Record<string, string> {
  const timestamp = String(Math.floor(atMs / 1000));
  const key = Buffer.from(secret.replace(/^whsec_/, ""), "base64");
  const signature = createHmac("sha256", key).update(`${id}.${timestamp}.${body}`).digest("base64");
  return {
    "webhook-id": id,
    "webhook-timestamp": timestamp,
    "webhook-signature": `v1,${signature}`,
  };
}

export function createWebhookSender(privateHosts: readonly string[]): SendWebhook {
  return (delivery, atMs, signal) =>
    new Promise((resolve, reject) => {
      // The setting may have changed since the address was registered.
      const fault = targetFault(delivery.url, privateHosts);
      if (fault !== null) throw new Unavailable(`The address is not allowed: ${fault}.`);
      const url = new URL(delivery.url);
      const isPrivateAllowed = privateHosts.includes(hostOf(url));
      const send = url.protocol === "https:" ? httpsRequest : httpRequest;
      const request = send(
        url,
        {
          method: "POST",
          headers: {
            ...signedHeaders(delivery, atMs),
            "content-type": "application/json",
            "content-length": Buffer.byteLength(delivery.body),
            "user-agent": "tunesmith-webhooks/1",
          },
          // No connection outlives its delivery, and a redirection is an answer like any other: it is not followed.
          agent: false,
          signal,
          ...(isPrivateAllowed ? {} : { lookup: lookupPublic }),
        },
        (response) => {
          resolve(response.statusCode ?? 0);
          // Nobody reads what a receiver says.
          response.destroy();
        },
      );
      request.on("error", reject);
      request.end(delivery.body);
    });
}

/** As dns.lookup, but an error when any of the addresses is not public. */
const lookupPublic: LookupFunction = (hostname, options, callback) => {
  lookup(hostname, { ...options, all: true }, (error, found: LookupAddress[]) => {
    if (error !== null) return callback(error, []);
    const [first] = found;
    if (
      first === undefined ||
      found.some(({ address }) => isIP(address) === 0 || !isPublicAddress(address))
    ) {
      return callback(new Error(`The address is not allowed: ${notPublic(hostname)}.`), []);
    }
    if (options.all === true) return callback(null, found);
    return callback(null, first.address, first.family);
  });
};
