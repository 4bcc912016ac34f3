// README.md of an export: what the model is, what it was made of and how to load it, in the form that model hubs read. No dates and
// no names of this machine: the same model gives the same bytes.
import type { ExportCertificate } from "../wire/export.ts";

const LOADING: { readonly [F in ExportCertificate["format"]]: (baseId: string) => string } = {
  peft: (baseId) =>
    `\`\`\`python
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base = AutoModelForCausalLM.from_pretrained("${baseId}")
model = PeftModel.from_pretrained(base, ".")
tokenizer = AutoTokenizer.from_pretrained(".")
\`\`\``,
  merged: () =>
    `\`\`\`python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained(".")
tokenizer = AutoTokenizer.from_pretrained(".")
\`\`\``,
  "gguf-adapter": () =>
    "```sh\nllama-server -m BASE.gguf --lora adapter.gguf\n```\n\nBASE.gguf is the base model as a GGUF file.",
  gguf: () => "```sh\nllama-server -m model.gguf\n```",
  ollama: () => "```sh\nollama create NAME -f Modelfile\n```",
};

export function modelCard(
  certificate: Pick<ExportCertificate, "format" | "precision" | "base_model" | "recipe" | "data">,
  isQuantizedBase: boolean,
): string {
  const { format, precision, base_model: base, recipe, data } = certificate;
  const baseId = base.hugging_face_id ?? base.id;
  const lines = [
    "---",
    `base_model: ${baseId}`,
    ...(format === "peft"
      ? ["library_name: peft"]
      : format === "merged"
        ? ["library_name: transformers"]
        : []),
    "pipeline_tag: text-generation",
    "tags:",
    "  - tunesmith",
    ...(format === "peft" || format === "gguf-adapter" ? ["  - lora"] : []),
    "---",
    "",
    `# ${baseId}, fine-tuned`,
    "",
    `Fine-tuned with tunesmith from \`${base.id}\` (sha256 \`${base.sha256}\`)${precision === null ? "" : `; weights stored as ${precision}`}.`,
    "`certificate.json` has the recipe, the checksum of each file, and how far these files are from the model that was trained;",
    "`tunesmith verify` checks the files against it.",
    ...(isQuantizedBase && (format === "peft" || format === "gguf-adapter")
      ? [
          "",
          "The base model was a GGUF file with quantized weights. On other weights of the same model the adapter works, but answers may differ in",
          "detail; the certificate's distance holds for that file.",
        ]
      : []),
    "",
    "## Loading",
    "",
    LOADING[format](baseId),
    "",
    "## Training",
    "",
    ...(recipe === null
      ? ["The recipe is not known any more."]
      : ["```json", JSON.stringify(trainingOf(recipe), null, 2), "```"]),
    ...(data === null
      ? []
      : [
          "",
          `Training data: sha256 \`${data.training}\`${data.validation === null ? "" : `; validation data: sha256 \`${data.validation}\``}.`,
        ]),
    "",
  ];
  return lines.join("\n");
}

/** What somebody who wants to know how it was trained looks for. */
function trainingOf(recipe: Record<string, unknown>): object {
  const { method, hyperparameters, lora, seed, maxLength } = recipe;
  return { method, hyperparameters, lora, seed, maxLength };
}
