// `tunesmith files`: upload, list, get, content, delete. The server judges purposes and contents.
import { basename } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { FileDeleted, FileObject } from "../wire/files.ts";
import type { ListWithIds } from "../wire/list.ts";
import { addressPart } from "./address.ts";
import { moreNote, noneNote } from "./list-text.ts";
import { openLocal, writeLocal } from "./local-files.ts";
import {
  formatCount,
  formatPairs,
  formatTable,
  formatTime,
  printAnswer,
  type CommandContext,
} from "./terminal.ts";

/** Uploads a local file, streamed from disk, or what comes through a pipe. */
export async function uploadFile(
  { client, terminal }: CommandContext,
  path: string,
  purpose: string,
): Promise<FileObject> {
  const form = new FormData();
  form.set("purpose", purpose);
  form.set("file", await openLocal(path, terminal.signal), basename(path));
  return client.post<FileObject>("/files", form);
}

export async function filesUpload(
  context: CommandContext,
  path: string,
  options: { purpose: string },
): Promise<void> {
  const file = await uploadFile(context, path, options.purpose);
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
  const file = await context.client.get<FileObject>(`/files/${addressPart("an id", id)}`);
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
  const answer = await context.client.delete<FileDeleted>(`/files/${addressPart("an id", id)}`);
  printAnswer(context, answer, () => `Deleted ${answer.id}\n`);
}

/** Writes a file's bytes to standard output or a local file; a result file arrives as the CSV it stands for. */
export async function filesContent(
  context: CommandContext,
  id: string,
  options: { output?: string },
): Promise<void> {
  const path = `/files/${addressPart("an id", id)}`;
  const file = await context.client.get<FileObject>(path);
  const openBody = async (): Promise<Readable> => {
    const response = await context.client.download(`${path}/content`);
    return file.purpose === "fine-tune-results"
      ? Readable.from([decodeResult(Buffer.from(await response.arrayBuffer()))])
      : Readable.fromWeb(response.body ?? new Blob([]).stream());
  };
  if (options.output !== undefined) {
    await writeLocal(options.output, openBody);
    const answer = { id: file.id, output: options.output };
    printAnswer(context, answer, () => `Wrote ${answer.output}\n`);
  } else if (context.json) {
    const body = await openBody();
    const bytes = Buffer.concat(await body.map((chunk: Uint8Array) => Buffer.from(chunk)).toArray());
    const text = bytes.toString("utf8");
    const isText = Buffer.from(text, "utf8").equals(bytes);
    const answer = isText ? { content: text } : { content_base64: bytes.toString("base64") };
    printAnswer(context, { id: file.id, ...answer }, () => "");
  } else {
    await pipeline(await openBody(), context.terminal.stdout, { end: false });
  }
}

/** Result files travel base64-encoded, as OpenAI sends them. A CSV has a comma in its heading, which base64 never has. */
function decodeResult(body: Buffer): Buffer {
  return body.includes(",") ? body : Buffer.from(body.toString("latin1"), "base64");
}
