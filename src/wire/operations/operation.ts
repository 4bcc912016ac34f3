// What the table of operations says of one operation: where it is, what it takes and what it answers. Data only: no room asks it
// how a request is carried out.
import type { z } from "zod";

export const TAGS = [
  "Files",
  "Uploads",
  "Fine-tuning",
  "Graders",
  "Preflight",
  "Models",
  "Aliases",
  "Chat",
  "Responses",
  "Completions",
  "Embeddings",
  "Batches",
  "Webhooks",
  "Keys and projects",
  "Server",
] as const;
export type Tag = (typeof TAGS)[number];

export type Method = "GET" | "POST" | "DELETE";

/** An answer that is no JSON. */
export type MediaType = "application/octet-stream" | "application/x-tar" | "text/html";

export interface Operation {
  method: Method;
  /** With path parameters in braces: /v1/files/{file_id}. */
  path: `/${string}`;
  /** OpenAI's operationId where it has one. */
  id: string;
  tag: Tag;
  /** A few words. */
  summary: string;
  /** What the schemas cannot say. */
  description?: string;
  query?: z.ZodType;
  /** Of a JSON body. */
  body?: z.ZodType;
  /** Of a multipart form, its file included. */
  form?: z.ZodType;
  /** Whether the body is a tar archive. */
  archive?: true;
  /** A body, form or query that is accepted once its ids exist. */
  example?: Readonly<Record<string, unknown>>;
  /** The schema of the 200 answer. */
  answer: z.ZodType | MediaType;
  /** The schema of each event's data when the request asks for a stream, which ends in [DONE]. */
  events?: z.ZodType;
  /** Statuses beside those that follow from the operation's form (400, 401, 403, 404, 413, 415, 429, 500, 503). */
  errors?: readonly number[];
  /** Whether it answers without a key: everybody, or callers on the machine itself. */
  open?: "everybody" | "this machine";
}

/** Names of the path parameters, in order. */
export function pathParameters(path: string): string[] {
  return [...path.matchAll(/\{(\w+)\}/g)].map(([, name = ""]) => name);
}

/** Whether the answer is a list of objects. */
export function isList({ method, answer }: Operation): boolean {
  return method === "GET" && typeof answer !== "string" && "shape" in answer && hasData(answer.shape);
}

const hasData = (shape: unknown): boolean => typeof shape === "object" && shape !== null && "data" in shape;
