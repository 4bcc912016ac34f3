// One export: the files of a format, what was read back from them compared with the trained model, and the certificate. The folder
// appears whole and within its bounds, or not at all.
import { statSync } from "node:fs";
import { copyFile, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { createChatTemplate } from "../data/chat-template.ts";
import { encodePrompt, stopTokenIds } from "../data/prompt.ts";
import type { ChatEncoding } from "../data/prompt.ts";
import { createTokenizer } from "../data/tokenizer.ts";
import { UnsupportedModel } from "../errors.ts";
import {
  ADAPTER_CONFIG_FILE,
  ADAPTER_WEIGHTS_FILE,
  readAdapter,
  type LoraAdapter,
} from "../model/adapter.ts";
import { flushFile, writeDirectoryAtomically, writeFileAtomically } from "../model/atomic-write.ts";
import { openBaseModel, sha256OfModel, type BaseModel } from "../model/base-model.ts";
import { sha256OfFile } from "../model/file-hash.ts";
import { catalogueEntry } from "../model/catalogue.ts";
import type { TensorReader } from "../model/decoder-weights.ts";
import { GgufFile } from "../model/gguf.ts";
import { tokenizerFromFolder, type ModelTokenizer } from "../model/model-tokenizer.ts";
import type { FloatType } from "../model/safetensors.ts";
import {
  CERTIFICATE_FILE,
  type ExportCertificate,
  type ExportDistance,
  type ExportFormat,
  type ExportPrecision,
} from "../wire/export.ts";
import { boundsOf, requireWithinBounds } from "./bounds.ts";
import {
  ANSWER_TOKENS,
  distanceFrom,
  referenceAnswers,
  type ReferenceAnswer,
  type ScoredModel,
} from "./distance.ts";
import { readGgufAdapter } from "./gguf-adapter-reader.ts";
import { writeGgufAdapter, writeGgufModel, type GgufPrecision } from "./gguf-model.ts";
import { copiedVocabulary, vocabularyOf, type EndTokens } from "./gguf-vocabulary.ts";
import { writeHuggingFaceModel } from "./huggingface-folder.ts";
import { mergedWeights } from "./merged-weights.ts";
import { readOrigin, type Origin } from "./import-record.ts";
import { modelCard } from "./model-card.ts";
import { modelfile } from "./modelfile.ts";
import { COMPARED_CONVERSATION, comparedPrompts, MAX_PROMPT_TOKENS, type PromptFile } from "./prompts.ts";
import { writeJson, writeTokenizerFiles } from "./tokenizer-files.ts";

export interface ExportOptions {
  /** Where the files shall be; a folder already there is replaced. */
  directory: string;
  /** ft:… */
  model: string;
  /** A PEFT adapter, as training left it. */
  adapterDirectory: string;
  base: { id: string; path: string };
  format: ExportFormat;
  precision: ExportPrecision | null;
  /** job.json, where it is still there; of an imported model, null. */
  recipe: Record<string, unknown> | null;
  /** The folder of an imported model's adapter says where it comes from; left out: a job here has made it. */
  isImported?: boolean;
  /** Where prompts are looked for, in this order. */
  promptFiles: readonly PromptFile[];
  versions: Record<string, string>;
}

/** How models are run: the room itself runs none. */
export type OpenModel = (
  weights: TensorReader,
  adapter: LoraAdapter | null,
  positions: number,
) => Promise<ScoredModel>;

const FILES = {
  weights: "model.gguf",
  adapter: "adapter.gguf",
  modelfile: "Modelfile",
  card: "README.md",
} as const;

const SAFETENSORS_TYPES: Partial<Record<ExportPrecision, FloatType>> = {
  f32: "F32",
  f16: "F16",
  bf16: "BF16",
};
const GGUF_TYPES: Partial<Record<ExportPrecision, GgufPrecision>> = {
  f16: "F16",
  q8_0: "Q8_0",
  q4_0: "Q4_0",
};

/** Makes the folder. Throws UnsupportedModel for what cannot be exported or ends beyond its bounds, OutOfSpace. */
export async function exportModel(options: ExportOptions, openModel: OpenModel): Promise<ExportCertificate> {
  const base = await openBaseModel(options.base.path);
  try {
    const baseSha256 = await sha256OfModel(options.base.path);
    const origin = options.isImported ? await readOrigin(options.adapterDirectory) : null;
    requireTrainedBase(options, origin, baseSha256);
    const adapter = await readAdapter(options.adapterDirectory, base.config);
    let certificate: ExportCertificate | undefined;
    await writeDirectoryAtomically(options.directory, async (directory) => {
      const encoding = encodingOf(base.tokenizer);
      const about = aboutOf(options, origin, baseSha256);
      await writeFiles(directory, { options, base, adapter, encoding });
      const card = modelCard(about, !isFolder(base));
      await writeFileAtomically(join(directory, FILES.card), [card]);
      const distance = await measure(directory, { options, base, adapter, encoding, openModel });
      certificate = { ...about, distance, files: await filesOf(directory) };
      const earlier = origin?.certificate ?? null;
      if (earlier === null || !isOfSameFiles(earlier.read, certificate))
        return writeJson(join(directory, CERTIFICATE_FILE), certificate);
      certificate = earlier.read;
      await writeFileAtomically(join(directory, CERTIFICATE_FILE), [earlier.bytes]);
    });
    return certificate as ExportCertificate;
  } finally {
    await base.close();
  }
}

/** An adapter of other weights than those at hand would be measured, and merged, into the wrong ones. */
function requireTrainedBase(
  { base, recipe, model }: ExportOptions,
  origin: Origin | null,
  sha256: string,
): void {
  const trained = origin?.baseSha256 ?? (recipe?.["baseModel"] as { sha256?: string } | undefined)?.sha256;
  if (trained === undefined || trained === sha256) return;
  throw new UnsupportedModel(
    `${model} was trained on ${base.id} with sha256 ${trained}; the files that are here now have ${sha256}. Put the files back that it was trained on.`,
    { code: "unsupported_model", param: "model" },
  );
}

/** The same bytes keep the certificate that they came with: what it says of them is as true as on the day it was made. */
function isOfSameFiles(earlier: ExportCertificate, now: ExportCertificate): boolean {
  const listed = ({ format, precision, files }: ExportCertificate) =>
    JSON.stringify([format, precision, files.map(({ name, bytes, sha256 }) => [name, bytes, sha256])]);
  return listed(earlier) === listed(now);
}

type About = Omit<ExportCertificate, "distance" | "files">;

function aboutOf(options: ExportOptions, origin: Origin | null, baseSha256: string): About {
  const { model, format, precision, base, versions } = options;
  const recipe = origin === null ? options.recipe : origin.recipe;
  // Names and hashes of an imported model are its origin's, the job's own here.
  const earlier = origin?.certificate?.read;
  if (earlier !== undefined) {
    const { object, version, base_model, data } = earlier;
    return { object, version, model, format, precision, base_model, recipe, data, versions };
  }
  const hashOf = (member: string): string | null =>
    (recipe?.[member] as { sha256: string } | null | undefined)?.sha256 ?? null;
  const training = hashOf("trainingData");
  return {
    object: "tunesmith.export_certificate",
    version: 1,
    model,
    format,
    precision,
    base_model: {
      id: base.id,
      hugging_face_id: catalogueEntry(base.id)?.huggingFaceId ?? null,
      sha256: baseSha256,
    },
    recipe: recipe === null ? null : withoutPaths(recipe),
    data: training === null ? null : { training, validation: hashOf("validationData") },
    versions,
  };
}

/** Where the base model lay on the machine that trained is nobody's business. */
function withoutPaths(recipe: Record<string, unknown>): Record<string, unknown> {
  const { path: _path, ...baseModel } = (recipe["baseModel"] ?? {}) as Record<string, unknown>;
  return { ...recipe, baseModel };
}

interface Parts {
  options: ExportOptions;
  base: BaseModel;
  adapter: LoraAdapter;
  encoding: ChatEncoding;
}

const isFolder = (base: BaseModel): boolean => statSync(base.path).isDirectory();

function encodingOf(tokenizer: ModelTokenizer): ChatEncoding {
  return { tokenizer: createTokenizer(tokenizer), template: createChatTemplate(tokenizer) };
}

async function writeFiles(directory: string, parts: Parts): Promise<void> {
  const { options, base, adapter, encoding } = parts;
  const { format, precision } = options;
  switch (format) {
    case "peft":
      for (const name of [ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE]) {
        await copyFile(join(options.adapterDirectory, name), join(directory, name));
        await flushFile(join(directory, name));
      }
      return writeTokenizerFiles(base, directory);
    case "merged":
      await writeHuggingFaceModel(directory, base, mergedWeights(base, adapter), {
        type: chosen(SAFETENSORS_TYPES, precision),
        endTokenIds: endTokenIds(parts),
      });
      return writeTokenizerFiles(base, directory);
    case "gguf-adapter":
      return writeGgufAdapter(join(directory, FILES.adapter), adapter, base.config);
    case "ollama": {
      const { bos_token: bos } = base.tokenizer.tokenizerConfig;
      const vocabulary = vocabularyFor(parts);
      const addsBos = vocabulary.get("tokenizer.ggml.add_bos_token");
      const text = modelfile(encoding.template, {
        weights: FILES.weights,
        stops: endTokenIds(parts).map((id) => encoding.tokenizer.decode([id])),
        addsBos: addsBos !== undefined && "bool" in addsBos && addsBos.bool ? bos : null,
      });
      await writeFileAtomically(join(directory, FILES.modelfile), [text]);
      return writeGguf(directory, parts);
    }
    case "gguf":
      return writeGguf(directory, parts);
  }
}

async function writeGguf(directory: string, parts: Parts): Promise<void> {
  const { options, base, adapter } = parts;
  await writeGgufModel(join(directory, FILES.weights), mergedWeights(base, adapter), {
    name: options.model,
    precision: chosen(GGUF_TYPES, options.precision),
    vocabulary: vocabularyFor(parts),
  });
}

function chosen<Type>(
  types: Partial<Record<ExportPrecision, Type>>,
  precision: ExportPrecision | null,
): Type {
  const found = precision === null ? undefined : types[precision];
  if (found === undefined) throw new Error(`internal: no type for the precision ${precision}`);
  return found;
}

/** Whatever ends an answer when the model is served here. */
function endTokenIds({ base, encoding }: Pick<Parts, "base" | "encoding">): number[] {
  return [...new Set([...stopTokenIds(encoding), ...base.config.eosTokenIds])];
}

function vocabularyFor({ base, encoding }: Parts) {
  const { tokenizer, config } = base;
  const eos = encoding.tokenizer.eosTokenIds[0] ?? config.eosTokenIds[0] ?? null;
  const turnEnd = stopTokenIds(encoding).find((id) => !encoding.tokenizer.eosTokenIds.includes(id)) ?? null;
  const ends: EndTokens = { eos, endOfTurn: turnEnd };
  if (isFolder(base)) return vocabularyOf(tokenizer, config, ends);
  const file = new GgufFile(base.path);
  try {
    return copiedVocabulary(file.metadata, tokenizer, ends);
  } finally {
    file.close();
  }
}

/** Compares what stands in the folder with the trained model. Throws UnsupportedModel beyond the bounds. */
async function measure(
  directory: string,
  { options, base, adapter, encoding, openModel }: Parts & { openModel: OpenModel },
): Promise<ExportDistance> {
  const { format, precision } = options;
  const positions = Math.min(base.config.maxPositions, MAX_PROMPT_TOKENS + ANSWER_TOKENS);
  const { prompts, from, sha256 } = await comparedPrompts(
    options.promptFiles,
    encoding,
    positions - ANSWER_TOKENS,
  );
  const answers = await answersOfTrained({ base, adapter, encoding, openModel }, prompts, positions);

  const written = await readBack(directory, format, base);
  try {
    if (written.tokenizer !== null)
      requireSameText(written.tokenizer, { base, encoding }, written.endTokenIds);
    const model = await openModel(written.weights, written.adapter, positions);
    const distance = {
      ...(await distanceFrom(answers, model)),
      prompts_from: from,
      prompts_sha256: sha256,
      bounds: boundsOf(format, precision),
    };
    await model.release();
    requireWithinBounds(distance, precision === null ? format : `${format} as ${precision}`);
    return distance;
  } finally {
    await written.close();
  }
}

/** A function of its own, so that its model's weights are free before the other's are read. */
async function answersOfTrained(
  { base, adapter, encoding, openModel }: Omit<Parts, "options"> & { openModel: OpenModel },
  prompts: readonly (readonly number[])[],
  positions: number,
): Promise<ReferenceAnswer[]> {
  const trained = await openModel(base, adapter, positions);
  try {
    return await referenceAnswers(trained, prompts, new Set(endTokenIds({ base, encoding })));
  } finally {
    await trained.release();
  }
}

interface Written {
  weights: TensorReader;
  adapter: LoraAdapter | null;
  tokenizer: ModelTokenizer | null;
  /** What the files themselves say ends an answer. */
  endTokenIds: readonly number[];
  close(): Promise<void>;
}

/** The files as a loader finds them, through the readers that read foreign models. */
async function readBack(directory: string, format: ExportFormat, base: BaseModel): Promise<Written> {
  const onBase = { weights: base, endTokenIds: [], close: async () => undefined };
  switch (format) {
    case "peft":
      return {
        ...onBase,
        adapter: await readAdapter(directory, base.config),
        tokenizer: tokenizerFromFolder(directory),
      };
    case "gguf-adapter":
      return {
        ...onBase,
        adapter: readGgufAdapter(join(directory, FILES.adapter), base.config),
        tokenizer: null,
      };
    case "merged":
    case "gguf":
    case "ollama": {
      const written = await openBaseModel(format === "merged" ? directory : join(directory, FILES.weights));
      return {
        weights: written,
        adapter: null,
        tokenizer: written.tokenizer,
        endTokenIds: written.config.eosTokenIds,
        close: () => written.close(),
      };
    }
  }
}

/** A template, a special token or an end token that was lost shows in no logit, and makes the model talk nonsense. */
function requireSameText(
  tokenizer: ModelTokenizer,
  own: Pick<Parts, "base" | "encoding">,
  writtenEnds: readonly number[],
): void {
  const encoding = encodingOf(tokenizer);
  const ids = (of: ChatEncoding) => JSON.stringify(encodePrompt(COMPARED_CONVERSATION, undefined, of));
  const lost: string[] = [];
  if (ids(encoding) !== ids(own.encoding)) lost.push("the chat template or the tokenizer");
  const ends = new Set([...stopTokenIds(encoding), ...writtenEnds]);
  if (endTokenIds(own).some((id) => !ends.has(id))) lost.push("an end token");
  if (lost.length === 0) return;
  throw new UnsupportedModel(
    `The export was refused and removed: read back, the files have lost ${lost.join(" and ")} of the trained model. Take the format merged or peft.`,
    { code: "export_too_far", param: "format" },
  );
}

async function filesOf(directory: string): Promise<ExportCertificate["files"]> {
  const files: ExportCertificate["files"] = [];
  for (const name of (await readdir(directory)).sort()) {
    const path = join(directory, name);
    files.push({ name, bytes: (await stat(path)).size, sha256: await sha256OfFile(path) });
  }
  return files;
}
