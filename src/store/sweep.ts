// The sweep of the disk: blobs that no row knows any more. What a crash left, what has expired, what was deleted while it was
// being read.
import type { BlobStore } from "./blobs.ts";
import type { FileStore } from "./files.ts";
import type { UploadStore } from "./uploads.ts";

/** Removes blobs of files and of uploads' parts that are gone, and ends the uploads whose hour is over. Returns how many blobs went. */
export async function sweepBlobs(
  stores: { files: FileStore; blobs: BlobStore; uploads: UploadStore; partBlobs: BlobStore },
  now: number,
): Promise<number> {
  const { files, blobs, uploads, partBlobs } = stores;
  const removed = await blobs.sweep((ids) => files.liveAmong(ids), now);
  await uploads.expire();
  return removed + (await partBlobs.sweep((ids) => uploads.livePartsAmong(ids), now));
}
