// `tunesmith models show`: where a model comes from and what became of it, as Markdown.
import type { LineageObject } from "../wire/lineage.ts";
import { addressPart } from "./address.ts";
import { formatTime, printAnswer, type CommandContext } from "./terminal.ts";

export async function modelsShow(context: CommandContext, id: string): Promise<void> {
  const lineage = await context.client.get<LineageObject>(
    `/tunesmith/models/${addressPart("a model's name", id)}`,
  );
  printAnswer(context, lineage, () => markdownOf(lineage));
}

function markdownOf(lineage: LineageObject): string {
  const kind = { fine_tuned: "fine-tuned", checkpoint: "checkpoint", imported: "imported" }[lineage.kind];
  const list = (pairs: readonly (readonly [string, string | null])[]): string =>
    pairs.map(([name, value]) => (value === null ? "" : `- ${name}: ${value}\n`)).join("");
  const code = (text: string | null): string | null => (text === null ? null : `\`${text}\``);
  const dataText = (file: LineageObject["training_file"]): string | null => {
    if (file === null) return null;
    const name = file.available
      ? `${file.id} (${file.filename ?? ""})`
      : `${file.id}, **deleted or expired**`;
    return `${name}${file.sha256 === null ? "" : `, sha256 \`${file.sha256}\``}`;
  };
  const json = (value: object | null): string =>
    value === null ? "Not known.\n" : `\`\`\`json\n${JSON.stringify(value, null, 2)}\n\`\`\`\n`;
  return [
    `# ${lineage.id}\n\n`,
    list([
      ["kind", kind],
      ["made", formatTime(lineage.created_at)],
      ["base model", code(lineage.base_model)],
      ["goes on from", code(lineage.parent)],
      ["rebased from", code(lineage.rebased_from)],
      ["job", lineage.job],
      ["method", lineage.method],
      ["trained tokens", lineage.trained_tokens === null ? null : String(lineage.trained_tokens)],
    ]),
    "\n## Data\n\n",
    list([
      ["training", dataText(lineage.training_file) ?? "not known"],
      ["validation", dataText(lineage.validation_file)],
    ]),
    "\n## Metrics\n\n",
    json(lineage.metrics),
    "\n## Recipe\n\n",
    json(lineage.recipe),
    "\n## Aliases\n\n",
    lineage.aliases.length === 0
      ? "None.\n"
      : list(
          lineage.aliases.map(
            ({ id, role }) => [id, role === "model" ? "leads here" : "tries it out"] as const,
          ),
        ),
    "\n## Exports\n\n",
    lineage.exports.length === 0
      ? "None.\n"
      : list(
          lineage.exports.map(({ created_at: at, format, precision, by }) => [
            formatTime(at),
            `${format}${precision === null ? "" : `, ${precision}`}, by ${by}`,
          ]),
        ),
  ].join("");
}
