// Rows as users of hosted fine-tuning have them: one long system prompt in front of many short requests. The tickets of
// examples/ticket-triage under a written-out prompt of about 400 tokens.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { CHAT_FORMAT, checkLines } from "../../src/data/dataset.ts";
import type { SupervisedExample } from "../../src/data/supervised-example.ts";
import type { TrainingExample } from "../../src/data/training-example.ts";
import type { BaseModel } from "../../src/model/base-model.ts";
import { encodeConversations } from "../training-bench.ts";

const TICKETS = join(import.meta.dirname, "../../examples/ticket-triage/train.jsonl");
const PROMPT = join(import.meta.dirname, "triage-system-prompt.txt");

export async function prefixRows(
  model: BaseModel,
  count: number,
  maxLength: number,
): Promise<SupervisedExample[]> {
  const system = { role: "system", content: (await readFile(PROMPT, "utf8")).trim() } as const;
  const rows: Pick<TrainingExample, "messages">[] = [];
  await checkLines(TICKETS, CHAT_FORMAT, undefined, ({ messages }) => {
    if (rows.length < count) rows.push({ messages: [system, ...messages.slice(1)] });
  });
  return encodeConversations(model, rows, maxLength);
}
