// The server to move to, as the migration needs it: passed in by the command line, whose client it is.
import { openAsBlob } from "node:fs";
import { TunesmithError } from "../errors.ts";
import type { FileObject } from "../wire/files.ts";

export interface TunesmithClient {
  readonly baseUrl: string;
  get<Answer>(path: string, query?: Record<string, string | number | undefined>): Promise<Answer>;
  post<Answer>(path: string, body?: object | FormData, headers?: Record<string, string>): Promise<Answer>;
}

/** The HTTP status of what the server refused; null for all else. */
export function statusOf(error: unknown): number | null {
  return error instanceof TunesmithError && "status" in error && typeof error.status === "number"
    ? error.status
    : null;
}

/** Whether the server has no such address at all, as one of an earlier version. */
export function isUnknownAddress(error: unknown): boolean {
  return statusOf(error) === 404 && (error as Error).message.startsWith("Invalid URL");
}

/** Null where the server answers 404. */
export async function findOrNull<Answer>(client: TunesmithClient, path: string): Promise<Answer | null> {
  try {
    return await client.get<Answer>(path);
  } catch (error) {
    if (statusOf(error) === 404) return null;
    throw error;
  }
}

/** Uploads a file for fine-tuning, streamed from disk; the same content a second time within a day is the same file. */
export async function uploadOnce(
  client: TunesmithClient,
  file: { path: string; name: string; sha256: string },
): Promise<string> {
  const send = async (key: string): Promise<string> => {
    const form = new FormData();
    form.set("purpose", "fine-tune");
    form.set("file", await openAsBlob(file.path), file.name);
    const uploaded = await client.post<FileObject>("/files", form, { "idempotency-key": key });
    return uploaded.id;
  };
  const key = `migrate-file-${file.sha256}`;
  const id = await send(key);
  // The answer may be that of an earlier upload, whose file has been deleted since.
  if ((await findOrNull(client, `/files/${encodeURIComponent(id)}`)) !== null) return id;
  return send(`${key.slice(0, 60)}-after-${id}`);
}
