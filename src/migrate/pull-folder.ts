// The folder while a pull writes it: its items by kind and id, and the manifest, which follows them at most a second behind. What a killed
// pull had written and not yet noted is fetched again.
import { createHash } from "node:crypto";
import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { InvalidRequest } from "../errors.ts";
import { removeTemporarySiblings, writeFileAtomically } from "../model/atomic-write.ts";
import {
  faultOf,
  FOLDERS,
  MANIFEST_FILE,
  pathOf,
  readManifest,
  writeManifest,
  type Item,
  type ItemKind,
  type Manifest,
} from "./manifest.ts";

/** Between two writings of the manifest, in milliseconds: what a kill makes the next pull do twice. */
const MANIFEST_INTERVAL_MS = 1_000;
/** Objects of one folder, so that the manifest stays a file that can be held in memory. */
const MAX_ITEMS = 300_000;

export type NewItem = Pick<Item, "kind" | "id"> & Partial<Pick<Item, "name" | "bytes" | "final">>;

export class PullFolder {
  readonly directory: string;
  readonly #items: Map<string, Item>;
  readonly #manifest: Manifest;
  #savedAtMs = 0;
  #saving: Promise<void> = Promise.resolve();

  private constructor(directory: string, manifest: Manifest) {
    this.directory = directory;
    this.#manifest = manifest;
    this.#items = new Map(manifest.items.map((item) => [item.path, item]));
  }

  /**
   * Opens or makes the folder, which must be empty or an earlier pull from the same place. What is noted as done and no longer is what it
   * was counts as pending again.
   */
  static async open(directory: string, source: Manifest["source"]): Promise<PullFolder> {
    const earlier = await readManifest(directory);
    if (earlier !== null && JSON.stringify(earlier.source) !== JSON.stringify(source))
      throw new InvalidRequest(
        `${directory} is a pull from ${placeOf(earlier.source)}, not from ${placeOf(source)}. Pull into a folder of its own.`,
      );
    const folder = new PullFolder(
      directory,
      earlier ?? {
        object: "tunesmith.openai_pull",
        version: 1,
        source,
        updated_at: 0,
        models: [],
        problems: [],
        items: [],
      },
    );
    for (const name of FOLDERS) {
      await mkdir(join(directory, name), { recursive: true });
      await removeTemporarySiblings(join(directory, name));
    }
    await removeTemporarySiblings(directory);
    for (const item of folder.items()) {
      if (item.state !== "done") continue;
      const fault = await faultOf(directory, item);
      if (fault !== null) Object.assign(item, { state: "pending", sha256: null, reason: fault });
    }
    return folder;
  }

  items(): Item[] {
    return [...this.#items.values()];
  }

  /** The item, made where it is new. One that is done and final stays so. */
  want({ kind, id, ...known }: NewItem): Item {
    const path = pathOf(kind, id);
    const found = this.#items.get(path);
    if (found !== undefined) {
      if (found.state === "done" && found.final) return found;
      return Object.assign(found, known, { state: "pending" });
    }
    if (this.#items.size >= MAX_ITEMS)
      throw new InvalidRequest(
        `There are more than ${MAX_ITEMS} objects to pull, more than one folder holds. Delete what you do not need at OpenAI, or pull by another project's key.`,
      );
    const made: Item = {
      kind,
      id,
      path,
      state: "pending",
      name: null,
      bytes: null,
      sha256: null,
      reason: null,
      final: true,
      ...known,
    };
    this.#items.set(path, made);
    return made;
  }

  /** Where the item's content belongs. */
  place(item: Item): string {
    return join(this.directory, item.path);
  }

  async done(item: Item, content: { bytes: number; sha256: string }): Promise<void> {
    Object.assign(item, { state: "done", reason: null, ...content });
    await this.#note();
  }

  async failed(item: Item, reason: string): Promise<void> {
    Object.assign(item, { state: "failed", reason });
    await this.#note();
  }

  /** Writes an item's content as JSON, unless it is there already. */
  async write(item: Item, content: object): Promise<void> {
    const text = Buffer.from(`${JSON.stringify(content, null, 1)}\n`);
    const sha256 = createHash("sha256").update(text).digest("hex");
    if (item.state === "done" && item.sha256 === sha256) return;
    await writeFileAtomically(this.place(item), [text]);
    await this.done(item, { bytes: text.length, sha256 });
  }

  /** Adds to the models that earlier pulls knew: one that was deleted since is still one whose name code may hold. */
  describe(models: Manifest["models"], problems: Manifest["problems"]): void {
    const known = new Map([...this.#manifest.models, ...models].map((model) => [model.id, model]));
    this.#manifest.models = [...known.values()];
    this.#manifest.problems = problems;
  }

  count(kind: ItemKind, state: Item["state"]): number {
    return this.items().filter((item) => item.kind === kind && item.state === state).length;
  }

  async #note(): Promise<void> {
    if (Date.now() - this.#savedAtMs < MANIFEST_INTERVAL_MS) return;
    this.#savedAtMs = Date.now();
    await this.save();
  }

  /** Writes the manifest as things stand, one writing after the other. */
  async save(): Promise<void> {
    this.#saving = this.#saving.then(async () => {
      this.#manifest.updated_at = Math.floor(Date.now() / 1000);
      this.#manifest.items = this.items();
      await writeManifest(this.directory, this.#manifest);
    });
    await this.#saving;
  }
}

function placeOf(source: Manifest["source"]): string {
  return source.type === "openai" ? source.base_url : "files saved by hand";
}

/** Makes the folder; throws InvalidRequest where it holds anything that is no pull. */
export async function preparePullFolder(directory: string): Promise<void> {
  await mkdir(directory, { recursive: true });
  const found = (await readdir(directory)).filter((name) => !name.startsWith("."));
  if (found.length === 0 || found.includes(MANIFEST_FILE)) return;
  // Killed before the first manifest: only our own folders.
  if (found.every((name) => FOLDERS.includes(name))) return;
  throw new InvalidRequest(
    `${directory} holds something that is no pull (${found.slice(0, 3).join(", ")}). Name a new folder, or that of an earlier pull.`,
  );
}
