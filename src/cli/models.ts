// `tunesmith models`: what the server can answer with, and which local base model stands behind each name.
import type { ModelDeleted, ModelList, ModelObject } from "../wire/models.ts";
import { addressPart } from "./address.ts";
import { formatTable, formatTime, printAnswer, type CommandContext } from "./terminal.ts";

export async function modelsList(context: CommandContext): Promise<void> {
  const list = await context.client.get<ModelList>("/models");
  printAnswer(context, list, () => {
    if (list.data.length === 0) return 'No models yet. Get one with "tunesmith models pull".\n';
    const columns = [
      { heading: "ID" },
      { heading: "KIND" },
      { heading: "LOCAL BASE MODEL" },
      { heading: "LEADS TO" },
      { heading: "CREATED" },
    ];
    const rows = list.data.map((model) => [
      model.id,
      kindOf(model),
      model.tunesmith?.base_model ?? "-",
      model.tunesmith?.alias_of ?? "-",
      formatTime(model.created),
    ]);
    return formatTable(columns, rows);
  });
}

function kindOf(model: ModelObject): "base" | "alias" | "fine-tuned" | "checkpoint" {
  if (model.tunesmith?.alias_of !== undefined) return "alias";
  if (model.id.startsWith("ft:")) return /:ckpt-step-\d+$/.test(model.id) ? "checkpoint" : "fine-tuned";
  return model.tunesmith === undefined || model.tunesmith.base_model === model.id ? "base" : "alias";
}

export async function modelsDelete(context: CommandContext, id: string): Promise<void> {
  const answer = await context.client.delete<ModelDeleted>(`/models/${addressPart("a model's name", id)}`);
  printAnswer(context, answer, () => `Deleted ${answer.id}\n`);
}
