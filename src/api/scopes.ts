// Which scope of a key a route needs. Pure: from a method and an address of the route table.
import type { Scope } from "../wire/keys.ts";

/** Where a model answers; making or ending such an answer is inference, whatever is kept of it. */
const INFERENCE = [
  "/v1/chat/completions",
  "/v1/completions",
  "/v1/embeddings",
  "/v1/responses",
  "/v1/batches",
] as const;

/** Null: every key may. A route that nobody thought of here is harmless to read and otherwise needs the right to train. */
export function scopeOf(method: string, url: string): Scope | null {
  // What a job would do is for those who may create it.
  if (url === "/tunesmith/preflight") return "train";
  // As the contents of files are, a model's weights are the project's own to read.
  if (/^\/tunesmith\/models\/[^/]+\/export$/.test(url)) return "read";
  // What a model of the project is called is for those who may make one.
  if (/^\/tunesmith\/aliases(\/|$)/.test(url)) return method === "GET" ? "read" : "train";
  // As a job does, it makes a model of the project; a whole model, of which a base model is made, asks for more by itself.
  if (url === "/tunesmith/models/import") return "train";
  // What a model is made of is to read as its weights are; to make it anew is a job.
  if (/^\/tunesmith\/models\/[^/]+(\/rebase)?$/.test(url)) return method === "GET" ? "read" : "train";
  if (url.startsWith("/tunesmith/") || /^\/v1\/fine_tuning\/checkpoints\//.test(url)) return "admin";
  if (!url.startsWith("/v1/")) return null;
  if (method === "GET") return "read";
  return INFERENCE.some((start) => url === start || url.startsWith(`${start}/`)) ? "infer" : "train";
}
