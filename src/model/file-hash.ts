// The sha256 of files, by which recipes, certificates and manifests know them again.
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";

/** The sha256 of one file, streamed, as hexadecimal digits. */
export async function sha256OfFile(path: string, signal?: AbortSignal): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20, ...(signal && { signal }) }))
    hash.update(chunk as Buffer);
  return hash.digest("hex");
}
