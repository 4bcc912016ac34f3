// The folder of a pull: where each object lies in it, and manifest.json, which says what of it is whole. Ids come from elsewhere and the
// file may have been edited, so a path is always made here and never taken from either.
import { createHash } from "node:crypto";
import { lstat, readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { InvalidRequest, messageOf } from "../errors.ts";
import { sha256OfFile } from "../model/file-hash.ts";
import { writeFileAtomically } from "../model/atomic-write.ts";
import { SECTIONS } from "./survey.ts";

export const MANIFEST_FILE = "manifest.json";

export const ITEM_KINDS = ["job", "file", "result", "eval", "completion"] as const;
export type ItemKind = (typeof ITEM_KINDS)[number];

const PLACES: Readonly<Record<ItemKind, { folder: string; ending: string }>> = {
  job: { folder: "jobs", ending: ".json" },
  file: { folder: "files", ending: ".jsonl" },
  result: { folder: "results", ending: ".csv" },
  eval: { folder: "evals", ending: ".json" },
  completion: { folder: "completions", ending: ".json" },
};
export const FOLDERS = Object.values(PLACES).map(({ folder }) => folder);

/** OpenAI's ids as they are; what looks like anything else gets a name made of its hash. The hyphen or underscore keeps device names out. */
const PLAIN_ID = /^[A-Za-z][A-Za-z0-9]{0,30}[-_][A-Za-z0-9_-]{1,100}$/;

/** Relative to the folder, with slashes. */
export function pathOf(kind: ItemKind, id: string): string {
  const { folder, ending } = PLACES[kind];
  return `${folder}/${fileNameOf(id)}${ending}`;
}

/** The id as a file's name without an ending. */
export function fileNameOf(id: string): string {
  return PLAIN_ID.test(id) ? id : `other-${createHash("sha256").update(id).digest("hex").slice(0, 24)}`;
}

const item = z.strictObject({
  kind: z.enum(ITEM_KINDS),
  id: z.string().min(1),
  path: z.string(),
  /** `failed`: with a reason, and tried again by the next pull. */
  state: z.enum(["pending", "done", "failed"]),
  /** As OpenAI calls it; only shown. */
  name: z.string().nullable(),
  /** A file's size as OpenAI states it, before it is here; as it is on disk after that. */
  bytes: z.int().min(0).nullable(),
  sha256: z
    .string()
    .regex(/^[0-9a-f]{64}$/)
    .nullable(),
  reason: z.string().nullable(),
  /** Whether it may still change at OpenAI: a job that runs is pulled again. */
  final: z.boolean(),
});
export type Item = z.infer<typeof item>;

const manifest = z.strictObject({
  object: z.literal("tunesmith.openai_pull"),
  version: z.literal(1),
  source: z.discriminatedUnion("type", [
    z.strictObject({ type: z.literal("openai"), base_url: z.string() }),
    z.strictObject({ type: z.literal("hand") }),
  ]),
  updated_at: z.int(),
  models: z.array(
    z.strictObject({
      id: z.string(),
      base: z.string().nullable(),
      job: z.string().nullable(),
      stops_on: z.string().nullable(),
    }),
  ),
  problems: z.array(z.strictObject({ section: z.enum(SECTIONS), message: z.string() })),
  items: z.array(item),
});
export type Manifest = z.infer<typeof manifest>;

/** A manifest of 300,000 objects has about this. */
const MAX_MANIFEST_BYTES = 128 * 1024 * 1024;

/** Throws InvalidRequest for a folder that is no pull and for a manifest that says what none of ours does; null without a manifest. */
export async function readManifest(directory: string): Promise<Manifest | null> {
  const path = join(directory, MANIFEST_FILE);
  const refuse = (found: string) =>
    new InvalidRequest(
      `${directory} is not the folder of a pull: expected a ${MANIFEST_FILE} as "tunesmith migrate openai pull" writes it, found ${found}. Name the folder of a pull, or pull into a new one.`,
    );
  let text: string;
  try {
    const found = await lstat(path);
    if (!found.isFile()) throw refuse("something that is no plain file");
    if (found.size > MAX_MANIFEST_BYTES) throw refuse(`one of ${found.size} bytes`);
    text = await readFile(path, "utf8");
  } catch (error) {
    if (error instanceof InvalidRequest) throw error;
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return null;
    throw refuse(messageOf(error));
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw refuse("one that is no JSON");
  }
  const parsed = manifest.safeParse(json);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    throw refuse(`one whose "${issue?.path.map(String).join(".") ?? ""}" is wrong (${issue?.message ?? ""})`);
  }
  const seen = new Set<string>();
  for (const { kind, id, path: given } of parsed.data.items) {
    const right = pathOf(kind, id);
    if (given !== right)
      throw refuse(
        `one in which the ${kind} ${JSON.stringify(id)} lies at ${JSON.stringify(given)} instead of "${right}"`,
      );
    if (seen.has(right)) throw refuse(`one that names ${right} twice`);
    seen.add(right);
  }
  return parsed.data;
}

/** As readManifest; throws InvalidRequest also where there is none. */
export async function requireManifest(directory: string): Promise<Manifest> {
  const found = await readManifest(directory);
  if (found !== null) return found;
  throw new InvalidRequest(
    `${directory} is not the folder of a pull: it has no ${MANIFEST_FILE}. Name the folder that "tunesmith migrate openai pull --out" wrote.`,
  );
}

export async function writeManifest(directory: string, content: Manifest): Promise<void> {
  await writeFileAtomically(join(directory, MANIFEST_FILE), [`${JSON.stringify(content, null, 1)}\n`]);
}

/** Why what lies there is not what was pulled; null when it is, to the last bit. */
export async function faultOf(directory: string, { path, bytes, sha256 }: Item): Promise<string | null> {
  const full = join(directory, path);
  const found = await lstat(full).catch(() => null);
  if (found === null) return `${path} is missing`;
  // A link may lead to a file that is right today.
  if (!found.isFile()) return `${path} is no plain file`;
  if (found.size !== bytes) return `${path} has ${found.size} bytes, the manifest says ${String(bytes)}`;
  const actual = await sha256OfFile(full);
  return actual === sha256 ? null : `${path} has the sha256 ${actual}, the manifest says ${String(sha256)}`;
}
