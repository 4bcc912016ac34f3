// Fetches models from the Hugging Face hub or a mirror of it. Knows the hub's two URLs and its checksums; what a model
// needs is decided by the catalogue.
import { join } from "node:path";
import { z } from "zod";
import { Unavailable, UnsupportedModel } from "../errors.ts";
import type { CatalogueEntry, KnownFile } from "./catalogue.ts";
import {
  causeOf,
  downloadFile,
  fetchWithin,
  requireFreeSpace,
  statusText,
  Watchdog,
  type Checksum,
  type Progress,
  type Timeouts,
} from "./download.ts";

export interface HubOptions {
  /** "https://huggingface.co" or a mirror. */
  hubUrl: string;
  /** Sent as a bearer token; gated models need one. */
  hubToken?: string | null | undefined;
  onProgress?: ((progress: Progress) => void) | undefined;
  signal?: AbortSignal | undefined;
  timeouts?: Partial<Timeouts> | undefined;
}

interface HubFile {
  name: string;
  sizeBytes: number;
  checksum: Checksum;
}

const sha256 = z.string().regex(/^[0-9a-f]{64}$/);
const repositorySchema = z.object({
  sha: z.string().regex(/^[0-9a-f]{40}$/),
  siblings: z.array(
    z.object({
      rfilename: z.string(),
      size: z.number().int().min(0).optional(),
      blobId: z.string().optional(),
      lfs: z.object({ sha256, size: z.number().int().min(0) }).nullish(),
    }),
  ),
});

/** The files a Hugging Face folder is read from; everything else in a repository (other formats, images) stays there. */
const WANTED =
  /^(?:config\.json|generation_config\.json|tokenizer\.json|tokenizer_config\.json|chat_template\.jinja|model\.safetensors|model\.safetensors\.index\.json|model-\d{5}-of-\d{5}\.safetensors)$/;

const LISTING_TIMEOUT_MS = 5_000;
/** The largest repositories list some thousand files; more is not a listing. */
const MAX_LISTING_BYTES = 16 * 1024 * 1024;

/**
 * Downloads the entry's files into `directory`, one after the other, each checked. Returns the commit they are from.
 * Throws Unavailable with a one-phrase reason.
 */
export async function fetchFromHub(
  entry: CatalogueEntry,
  directory: string,
  options: HubOptions,
): Promise<{ revision: string; files: string[] }> {
  const { revision, files } =
    entry.files.length > 0
      ? { revision: entry.hub.revision, files: entry.files.map(asHubFile) }
      : await listFiles(entry, options);
  const totalBytes = files.reduce((sum, file) => sum + file.sizeBytes, 0);
  await requireFreeSpace(directory, totalBytes);
  let doneBytes = 0;
  for (const file of files) {
    await downloadFile({
      url: `${options.hubUrl}/${entry.hub.repository}/resolve/${revision}/${file.name}`,
      destination: join(directory, file.name),
      sizeBytes: file.sizeBytes,
      checksum: file.checksum,
      headers: authorization(options),
      onProgress: ({ receivedBytes }) =>
        options.onProgress?.({ receivedBytes: doneBytes + receivedBytes, totalBytes }),
      signal: options.signal,
      timeouts: options.timeouts,
    });
    doneBytes += file.sizeBytes;
  }
  return { revision, files: files.map((file) => file.name) };
}

function asHubFile({ name, sizeBytes, sha256: hex }: KnownFile): HubFile {
  return { name, sizeBytes, checksum: { kind: "sha256", hex } };
}

function authorization(options: HubOptions): Record<string, string> {
  return options.hubToken ? { authorization: `Bearer ${options.hubToken}` } : {};
}

/** The commit the revision stands for now and its files with the hub's own checksums. */
async function listFiles(
  entry: CatalogueEntry,
  options: HubOptions,
): Promise<{ revision: string; files: HubFile[] }> {
  const url = `${options.hubUrl}/api/models/${entry.hub.repository}/revision/${entry.hub.revision}?blobs=true`;
  const watchdog = new Watchdog(options.signal);
  try {
    const response = await fetchWithin(
      url,
      authorization(options),
      watchdog,
      options.timeouts?.connectMs ?? LISTING_TIMEOUT_MS,
    );
    const text = await readLimited(response, watchdog, options.timeouts?.stallMs ?? LISTING_TIMEOUT_MS);
    if (response.status === 401 || response.status === 403)
      throw new Unavailable(
        `the server answered ${statusText(response)}: the model needs an accepted licence and a token (TUNESMITH_HUB_TOKEN)`,
      );
    if (!response.ok) throw new Unavailable(`the server answered ${statusText(response)}`);
    return parseListing(text);
  } finally {
    watchdog.stop();
  }
}

async function readLimited(response: Response, watchdog: Watchdog, withinMs: number): Promise<string> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  watchdog.expect(withinMs, `the listing did not come whole within ${withinMs / 1000} s`);
  try {
    for await (const chunk of (response.body ?? []) as AsyncIterable<Uint8Array>) {
      size += chunk.length;
      if (size > MAX_LISTING_BYTES)
        throw new Unavailable(`the listing is longer than ${MAX_LISTING_BYTES} bytes`);
      chunks.push(chunk);
    }
  } catch (error) {
    if (error instanceof Unavailable) throw error;
    throw new Unavailable(watchdog.reason ?? `the listing broke off: ${causeOf(error)}`, { cause: error });
  }
  return Buffer.concat(chunks).toString("utf8");
}

function parseListing(text: string): { revision: string; files: HubFile[] } {
  const parsed = repositorySchema.safeParse(parseJson(text));
  if (!parsed.success) throw new Unavailable("the server's listing is not one of a Hugging Face model");
  const files = parsed.data.siblings
    .filter((sibling) => WANTED.test(sibling.rfilename))
    .map((sibling): HubFile => {
      const name = sibling.rfilename;
      if (sibling.lfs)
        return {
          name,
          sizeBytes: sibling.lfs.size,
          checksum: { kind: "sha256", hex: sibling.lfs.sha256 },
        };
      if (sibling.size === undefined || !/^[0-9a-f]{40}$/.test(sibling.blobId ?? ""))
        throw new Unavailable(`the listing gives no size and checksum for ${name}`);
      return { name, sizeBytes: sibling.size, checksum: { kind: "git-blob", hex: sibling.blobId ?? "" } };
    });
  const hasSingle = files.some((file) => file.name === "model.safetensors");
  // Some repositories hold both forms of the same weights: one is enough.
  const needed = files.filter(
    (file) => !hasSingle || !/^model[-.].*(?:index\.json|-of-\d+\.safetensors)$/.test(file.name),
  );
  if (!needed.some((file) => file.name.endsWith(".safetensors")))
    throw new UnsupportedModel("the repository has no safetensors weights", { code: "unsupported_model" });
  return { revision: parsed.data.sha, files: needed };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
