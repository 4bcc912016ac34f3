// A tiny base model with a random adapter, exported in process: what the tests of exports share.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";
import { makeTinyModel } from "../../scripts/make-tiny-model.ts";
import { exportModel, type ExportOptions, type OpenModel } from "../../src/export/export-model.ts";
import { openModelWith } from "../../src/main/export-model.ts";
import { adapterShapes, writeAdapter, type LoraAdapter } from "../../src/model/adapter.ts";
import { openBaseModel } from "../../src/model/base-model.ts";
import { LORA_TARGETS } from "../../src/model/lora-targets.ts";
import { createRandom } from "../../src/random.ts";
import type { ExportCertificate } from "../../src/wire/export.ts";

const folders: string[] = [];
afterAll(async () => {
  for (const folder of folders) await rm(folder, { recursive: true, force: true });
});

/** A folder that goes when the file's tests have ended. */
export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "tunesmith-export-"));
  folders.push(folder);
  return folder;
}

export async function tinyModel(): Promise<string> {
  const folder = join(await temporaryFolder(), "tiny");
  await makeTinyModel(folder);
  return folder;
}

/** Random pairs on every layer that move the logits by as much as the model's own weights do. */
export async function randomAdapter(
  base: string,
  plan: Partial<Pick<LoraAdapter, "rank" | "alpha" | "targetModules">> = {},
  spread = 0.3,
): Promise<{ directory: string; adapter: LoraAdapter }> {
  const model = await openBaseModel(base);
  await model.close();
  const random = createRandom(3);
  const adapter: LoraAdapter = {
    rank: 3,
    alpha: 7,
    dropout: 0,
    targetModules: [...LORA_TARGETS],
    baseModelId: "tiny",
    ...plan,
    tensors: new Map(),
  };
  for (const [name, shape] of adapterShapes(model.config, adapter)) {
    const data = Float32Array.from({ length: shape[0] * shape[1] }, () => spread * (random.next() - 0.5));
    adapter.tensors.set(name, { shape, data });
  }
  const directory = join(await temporaryFolder(), "adapter");
  await writeAdapter(directory, adapter);
  return { directory, adapter };
}

/** `base`: the base model's path; of the other options, those that are left out are of no matter. */
export async function exported(
  given: { base: string; adapterDirectory: string; format: ExportOptions["format"] } & Partial<
    Omit<ExportOptions, "base">
  >,
  openModel: OpenModel = openModelWith(1),
): Promise<{ directory: string; certificate: ExportCertificate }> {
  const directory = given.directory ?? join(await temporaryFolder(), "export");
  const certificate = await exportModel(
    {
      model: "ft:tiny:personal::abcdefgh",
      precision: null,
      recipe: null,
      promptFiles: [],
      versions: { tunesmith: "0.0.0" },
      ...given,
      directory,
      base: { id: "tiny", path: given.base },
    },
    openModel,
  );
  return { directory, certificate };
}

/** Stands for models that agree, where a test measures elsewhere what the files hold. */
export const unmeasured: OpenModel = async () => ({
  score: async (_tokens, _from, onLogits) => onLogits(Float32Array.of(1, 0)),
  write: async () => [0],
  release: async () => undefined,
});
