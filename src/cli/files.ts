// `tunesmith files`: upload, list, get, content, delete. The server judges purposes and contents.
import { createWriteStream, openAsBlob } from "node:fs";
import { rename, rm, stat } from "node:fs/promises";
import { basename } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { InvalidRequest, messageOf, Unavailable } from "../errors.ts";
import type { FileDeleted, FileObject } from "../wire/files.ts";
import type { ListWithIds } from "../wire/list.ts";
import type { ApiClient } from "./client.ts";
import { moreNote, noneNote } from "./list-text.ts";
import {
  formatCount,
  formatPairs,
  formatTable,
  formatTime,
  printAnswer,
  type CommandContext,
} from "./terminal.ts";

/** Uploads a local file, streamed from disk. */
export async function uploadFile(client: ApiClient, path: string, purpose: string): Promise<FileObject> {
  const form = new FormData();
  form.set("purpose", purpose);
  form.set("file", await openLocal(path), basename(path));
  return client.post<FileObject>("/files", form);
}

async function openLocal(path: string): Promise<Blob> {
  const problem = (found: string, cause?: unknown): InvalidRequest =>
    new InvalidRequest(`Cannot read "${path}": expected a file, found ${found}. Check the path.`, { cause });
  try {
    const found = await stat(path);
    if (found.isDirectory()) throw problem("a folder");
    return await openAsBlob(path);
  } catch (error) {
    if (error instanceof InvalidRequest) throw error;
    const code = error instanceof Error && "code" in error ? error.code : null;
    throw problem(code === "ENOENT" ? "nothing of that name" : messageOf(error), error);
  }
}

export async function filesUpload(
  context: CommandContext,
  path: string,
  options: { purpose: string },
): Promise<void> {
  const file = await uploadFile(context.client, path, options.purpose);
  printAnswer(context, file, () => `${file.id}  ${file.filename}, ${formatCount(file.bytes)} bytes\n`);
}

export async function filesList(
  context: CommandContext,
  options: { purpose?: string; limit?: number; after?: string },
): Promise<void> {
  const list = await context.client.get<ListWithIds<FileObject>>("/files", { ...options });
  printAnswer(context, list, () => {
    if (list.data.length === 0) {
      const filter = options.purpose === undefined ? undefined : `with the purpose "${options.purpose}"`;
      const firstStep = 'Upload one with "tunesmith files upload PATH".';
      return noneNote("files", { after: options.after, filter }, firstStep);
    }
    const columns = [
      { heading: "ID" },
      { heading: "FILENAME" },
      { heading: "PURPOSE" },
      { heading: "BYTES", align: "right" as const },
      { heading: "CREATED" },
    ];
    const rows = list.data.map((file) => [
      file.id,
      file.filename,
      file.purpose,
      formatCount(file.bytes),
      formatTime(file.created_at),
    ]);
    const command = options.purpose === undefined ? "files list" : `files list --purpose ${options.purpose}`;
    return formatTable(columns, rows) + moreNote(list.has_more, list.last_id, command);
  });
}

export async function filesGet(context: CommandContext, id: string): Promise<void> {
  const file = await context.client.get<FileObject>(`/files/${encodeURIComponent(id)}`);
  printAnswer(context, file, () =>
    formatPairs([
      ["id", file.id],
      ["filename", file.filename],
      ["purpose", file.purpose],
      ["bytes", formatCount(file.bytes)],
      ["created", formatTime(file.created_at)],
      ["expires", file.expires_at === null ? null : formatTime(file.expires_at)],
      ["status", file.status],
      ["details", file.status_details],
    ]),
  );
}

export async function filesDelete(context: CommandContext, id: string): Promise<void> {
  const answer = await context.client.delete<FileDeleted>(`/files/${encodeURIComponent(id)}`);
  printAnswer(context, answer, () => `Deleted ${answer.id}\n`);
}

/** Writes a file's bytes to standard output or a local file; a result file arrives as the CSV it stands for. */
export async function filesContent(
  context: CommandContext,
  id: string,
  options: { output?: string },
): Promise<void> {
  const path = `/files/${encodeURIComponent(id)}`;
  const file = await context.client.get<FileObject>(path);
  const response = await context.client.download(`${path}/content`);
  const body =
    file.purpose === "fine-tune-results"
      ? Readable.from([decodeResult(Buffer.from(await response.arrayBuffer()))])
      : Readable.fromWeb(response.body ?? new Blob([]).stream());
  if (options.output !== undefined) {
    await writeWhole(body, options.output);
    const answer = { id: file.id, output: options.output };
    printAnswer(context, answer, () => `Wrote ${answer.output}\n`);
  } else if (context.json) {
    const bytes = Buffer.concat(await body.map((chunk: Uint8Array) => Buffer.from(chunk)).toArray());
    const text = bytes.toString("utf8");
    const isText = Buffer.from(text, "utf8").equals(bytes);
    const answer = isText ? { content: text } : { content_base64: bytes.toString("base64") };
    printAnswer(context, { id: file.id, ...answer }, () => "");
  } else {
    await pipeline(body, context.terminal.stdout, { end: false });
  }
}

/** Result files travel base64-encoded, as OpenAI sends them. A CSV has a comma in its heading, which base64 never has. */
function decodeResult(body: Buffer): Buffer {
  return body.includes(",") ? body : Buffer.from(body.toString("latin1"), "base64");
}

/** Writes beside the target first, so that a broken download never leaves half a file under its name. */
async function writeWhole(body: Readable, path: string): Promise<void> {
  const partial = `${path}.${process.pid}.partial`;
  try {
    await pipeline(body, createWriteStream(partial, { flush: true }));
    await rename(partial, path);
  } catch (error) {
    await rm(partial, { force: true });
    throw new Unavailable(
      `Could not write "${path}": ${messageOf(error)}. Check the folder and the free space.`,
      { cause: error },
    );
  }
}
