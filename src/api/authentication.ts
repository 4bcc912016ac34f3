// Who may use the server, for which project and for what: keys of the settings and of the database. Without any key, only
// callers that address this machine by a name of its own, so that no web page can reach a key-less server through the
// visitor's browser.
import { createHash, timingSafeEqual } from "node:crypto";
import type { FastifyRequest } from "fastify";
import { OutOfSpace } from "../errors.ts";
import type { ApiKey, ApiKeyStore } from "../store/api-keys.ts";
import type { ProjectStore } from "../store/projects.ts";
import { DEFAULT_PROJECT } from "../wire/ids.ts";
import { SCOPES } from "../wire/keys.ts";
import type { Scope } from "../wire/keys.ts";
import type { Operation } from "../wire/operations/operation.ts";
import { Forbidden, Unauthorized } from "./error-answers.ts";

/** Whoever makes a request, as its key says. */
export interface Caller {
  /** The key of the database; null for one of the settings, and for the owner of this machine. */
  key: ApiKey | null;
  scopes: readonly Scope[];
  /** A line of a batch of this key's, which leaves room for the key's other requests. */
  isBatch?: true;
}

declare module "fastify" {
  interface FastifyRequest {
    /** The project whose objects this request may see and make. */
    project: string;
    /** Undefined until it is known, and where everybody may ask. */
    caller: Caller | undefined;
  }

  interface FastifyContextConfig {
    /** What a key needs for this route; left out: nothing. */
    scope?: Scope | null;
    /** Who may ask at this address without a key. */
    open?: Operation["open"];
    /** What the table of operations says of this route; null where only the method is wrong. */
    operation?: Operation | null;
  }
}

/** Who asks, for what is written down: the id of a key of the database, or owner. */
export function callerName({ caller }: FastifyRequest): string {
  return caller?.key?.id ?? "owner";
}

/** Says who asks and sets the request's project. Throws Unauthorized or Forbidden unless the request may pass. */
export type Authenticate = (request: FastifyRequest) => Promise<void>;

/** Whoever holds a key of the settings, or sits at a machine without keys, owns the server. */
const OWNER: Caller = { key: null, scopes: SCOPES };

export function createAuthentication(parts: {
  /** Of the settings. */
  apiKeys: readonly string[];
  keys: ApiKeyStore;
  projects: ProjectStore;
}): Authenticate {
  const { keys, projects } = parts;
  const hashes = parts.apiKeys.map(hashOf);
  let hasKeys = hashes.length > 0;

  /** The last admin key cannot be revoked, so a server that has keys never becomes one without. */
  async function needsKey(): Promise<boolean> {
    hasKeys ||= await keys.any();
    return hasKeys;
  }

  async function callerOf(request: FastifyRequest): Promise<Caller> {
    const header = request.headers.authorization ?? "";
    const secret = /^Bearer\s+(\S+)\s*$/i.exec(header)?.[1] ?? "";
    const sent = hashOf(secret);
    // Every key is compared, in equal time: neither the right beginning of a key nor its place in the list shows.
    if (hashes.filter((hash) => timingSafeEqual(hash, sent)).length > 0) return OWNER;
    const key = secret === "" ? null : await keys.find(secret);
    if (key !== null) return { key, scopes: key.scopes };
    if (!(await needsKey())) {
      refuseOtherSites(request);
      return OWNER;
    }
    if (header.trim() === "") {
      throw new Unauthorized(
        "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).",
      );
    }
    throw new Unauthorized(
      `Incorrect API key provided: ${masked(secret)}. Use a key made with 'tunesmith keys create', or one of the server's setting TUNESMITH_API_KEYS.`,
      { code: "invalid_api_key" },
    );
  }

  /** The project the request names, or its key's. */
  async function projectOf(request: FastifyRequest, caller: Caller): Promise<string> {
    const own = caller.key?.projectId ?? DEFAULT_PROJECT;
    const named = request.headers["openai-project"];
    if (typeof named !== "string" || named === "" || named === own) return own;
    // To others, a project that exists is as foreign as one that does not.
    if (!caller.scopes.includes("admin")) {
      throw new Unauthorized(
        "OpenAI-Project header should match project for API key. Leave the header out, or use a key of that project.",
        { code: "mismatched_project" },
      );
    }
    if (await projects.exists(named)) return named;
    throw new Unauthorized(
      `No project has the id '${named.slice(0, 80)}' of the header OpenAI-Project. Leave the header out to use the project ${own}, or make the project with 'tunesmith projects create'.`,
      { code: "invalid_project" },
    );
  }

  /** Whoever only reads needs no room on the disk. */
  async function noteUse(key: ApiKey, request: FastifyRequest): Promise<void> {
    try {
      await keys.touch(key);
    } catch (error) {
      if (!(error instanceof OutOfSpace)) throw error;
      request.log.warn({ error: error.message }, "The use of a key could not be noted");
    }
  }

  return async (request) => {
    const caller = await callerOf(request);
    request.caller = caller;
    request.project = await projectOf(request, caller);
    const { scope = null } = request.routeOptions.config;
    if (scope !== null && !caller.scopes.includes(scope)) throw missingScope(scope, caller);
    if (caller.key !== null) await noteUse(caller.key, request);
  };
}

function missingScope(scope: Scope, caller: Caller): Forbidden {
  return new Forbidden(
    `You have insufficient permissions for this operation. Missing scopes: ${scope}. This key has: ${caller.scopes.join(", ")}. Use a key with the missing scope; a key's own scopes never change.`,
  );
}

/** Whether a request to this address needs no key. */
export function isOpen(request: FastifyRequest): boolean {
  const { open } = request.routeOptions.config;
  return open === "everybody" || (open === "this machine" && isFromThisMachine(request));
}

/** A proxy on this machine speaks for others; one that says so, or hands on the name they used, is not taken for its owner. */
function isFromThisMachine(request: FastifyRequest): boolean {
  const { headers, raw } = request;
  const isForwarded = Object.keys(headers).some((name) =>
    /^(forwarded|via|x-forwarded-.*|x-real-ip)$/.test(name),
  );
  const address = (raw.socket.remoteAddress ?? "").replace(/^::ffff:/, "");
  return !isForwarded && (address === "::1" || isLocalName(address)) && isAmongOwnNames(request);
}

/** Without this, a page open in a browser on this machine could post to the server (form posts need no permission), or read it by rebinding a DNS name. */
function refuseOtherSites(request: FastifyRequest): void {
  if (isAmongOwnNames(request)) return;
  throw new Forbidden(
    "This server has no API keys and therefore answers only requests made to and from this machine itself (localhost). Make an admin key with 'tunesmith keys create --scopes admin', or set TUNESMITH_API_KEYS, to use it under another name or from a web page.",
  );
}

/** Whether both the name that is asked for and the page that asks, if any, are this machine's. */
function isAmongOwnNames({ headers: { host: named, origin } }: FastifyRequest): boolean {
  const host = hostOf(`http://${named ?? ""}`);
  const from = origin === undefined ? null : hostOf(origin);
  return host !== null && isLocalName(host) && (from === null ? origin === undefined : isLocalName(from));
}

function hostOf(url: string): string | null {
  return URL.canParse(url) ? new URL(url).hostname : null;
}

const isLocalName = (host: string) =>
  host === "localhost" || host.endsWith(".localhost") || host === "[::1]" || /^127(\.[0-9]+){3}$/.test(host);

const hashOf = (key: string) => createHash("sha256").update(key).digest();

/** The first 8 and last 4 characters, as OpenAI shows them, when that leaves some of the key unseen. */
function masked(key: string): string {
  if (key.length < 16) return "*".repeat(key.length);
  return key.slice(0, 8) + "*".repeat(Math.min(key.length - 12, 40)) + key.slice(-4);
}
