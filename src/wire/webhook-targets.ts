// Where webhooks may be sent: public https addresses, and those hosts of the operator's own network that the operator has named.
// Without this, whoever holds a key could make the server post to services that only it can reach.
import { BlockList, isIP } from "node:net";

/** IANA's special-purpose ranges that are not reachable from everywhere, and multicast. IPv4 in IPv6 is judged as IPv4. */
const NOT_PUBLIC = new BlockList();
for (const [network, prefix] of [
  ["0.0.0.0", 8],
  ["10.0.0.0", 8],
  ["100.64.0.0", 10],
  ["127.0.0.0", 8],
  ["169.254.0.0", 16],
  ["172.16.0.0", 12],
  ["192.0.0.0", 24],
  ["192.0.2.0", 24],
  ["192.168.0.0", 16],
  ["198.18.0.0", 15],
  ["198.51.100.0", 24],
  ["203.0.113.0", 24],
  ["224.0.0.0", 4],
  ["240.0.0.0", 4],
] as const) {
  NOT_PUBLIC.addSubnet(network, prefix, "ipv4");
}
for (const [network, prefix] of [
  ["::", 96],
  ["64:ff9b::", 96],
  ["64:ff9b:1::", 48],
  ["100::", 64],
  ["2001::", 23],
  ["2001:db8::", 32],
  ["2002::", 16],
  ["3fff::", 20],
  ["5f00::", 16],
  ["fc00::", 7],
  ["fe80::", 9],
  ["ff00::", 8],
] as const) {
  NOT_PUBLIC.addSubnet(network, prefix, "ipv6");
}

export function isPublicAddress(address: string): boolean {
  const family = isIP(address);
  return family !== 0 && !NOT_PUBLIC.check(address, family === 6 ? "ipv6" : "ipv4");
}

/** The host of an address as the setting names it: an IPv6 address without brackets. */
export function hostOf(url: URL): string {
  return url.hostname.replace(/^\[(.*)\]$/, "$1");
}

/** What speaks against sending to this address, or null; a host's name is looked up only when something is sent. */
export function targetFault(text: string, privateHosts: readonly string[]): string | null {
  if (!URL.canParse(text)) return "expected an https address";
  const url = new URL(text);
  if (url.username !== "" || url.password !== "") {
    return "it holds a user name or password; receivers know deliveries by their signature";
  }
  const host = hostOf(url);
  if (privateHosts.includes(host)) {
    return ["http:", "https:"].includes(url.protocol) ? null : "expected an http or https address";
  }
  if (url.protocol !== "https:") {
    return "expected an https address; http is for hosts named in the server's setting TUNESMITH_WEBHOOK_PRIVATE_HOSTS";
  }
  return isIP(host) === 0 || isPublicAddress(host) ? null : notPublic(host);
}

export function notPublic(host: string): string {
  return `${host} is no public address; the server's setting TUNESMITH_WEBHOOK_PRIVATE_HOSTS names the private hosts that webhooks may be sent to`;
}
