// The output and error file of a batch: what the journal holds, parted by success, and a line for each request that never ran.
import type { Batch } from "../store/batches.ts";
import type { BlobStore } from "../store/blobs.ts";
import type { NewUpload } from "../store/files.ts";
import { newId } from "../wire/ids.ts";
import type { BatchOutputLine } from "../wire/batches.ts";
import { parseBatchLine, requestLines } from "./batch-input.ts";
import { hasSucceeded, readJournal } from "./batch-journal.ts";

/** Why a line has no result, by how its batch ended. A completed batch has one for each. */
const NOT_RUN = {
  completed: null,
  expired: {
    code: "batch_expired",
    message: "This request could not be executed before the completion window expired.",
  },
  cancelled: {
    code: "batch_cancelled",
    message: "This request was not executed because the batch was cancelled.",
  },
} as const;

export interface OutputFilesOptions {
  blobs: BlobStore;
  batch: Batch;
  paths: { input: string; journal: string };
  maxLineBytes: number;
  signal: AbortSignal;
  status: keyof typeof NOT_RUN;
}

/** Writes the blobs; null in place of a file that would be empty. What is written for nothing (a crash follows) is swept later. */
export async function writeOutputFiles(
  options: OutputFilesOptions,
): Promise<{ outputFile: NewUpload | null; errorFile: NewUpload | null }> {
  return {
    outputFile: await writeFile(options, "output", successes(options)),
    errorFile: await writeFile(options, "error", failures(options)),
  };
}

async function* successes({ paths }: OutputFilesOptions): AsyncGenerator<BatchOutputLine> {
  for await (const { output } of readJournal(paths.journal)) if (hasSucceeded(output)) yield output;
}

async function* failures({
  paths,
  maxLineBytes,
  signal,
  status,
}: OutputFilesOptions): AsyncGenerator<BatchOutputLine> {
  const done = new Set<number>();
  for await (const { line, output } of readJournal(paths.journal)) {
    done.add(line);
    if (!hasSucceeded(output)) yield output;
  }
  const error = NOT_RUN[status];
  if (error === null) return;
  for await (const { number, text } of requestLines(paths.input, { maxLineBytes, signal })) {
    if (text === null || done.has(number)) continue;
    const { custom_id } = parseBatchLine(text);
    yield { id: newId("batchRequest"), custom_id, response: null, error: { ...error } };
  }
}

async function writeFile(
  { blobs, batch }: OutputFilesOptions,
  kind: "output" | "error",
  lines: AsyncGenerator<BatchOutputLine>,
): Promise<NewUpload | null> {
  const first = await lines.next();
  if (first.done === true) return null;
  const id = newId("file");
  const written = await blobs.write(id, asBytes(first.value, lines), {
    // Its bounds are those of the input: lines, and the body of an answer.
    maxBytes: Number.MAX_SAFE_INTEGER,
  });
  return {
    id,
    projectId: batch.projectId,
    filename: `${batch.id}_${kind}.jsonl`,
    purpose: "batch_output",
    expiresAfterSeconds: batch.outputTtlSeconds,
    ...written,
  };
}

async function* asBytes(
  first: BatchOutputLine,
  rest: AsyncIterable<BatchOutputLine>,
): AsyncGenerator<Uint8Array> {
  yield Buffer.from(`${JSON.stringify(first)}\n`);
  for await (const line of rest) yield Buffer.from(`${JSON.stringify(line)}\n`);
}
