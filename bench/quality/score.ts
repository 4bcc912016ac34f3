// What a trained adapter answers to a task's questions, and how many answers are right. Adapters of both sides are asked through the
// same decoder, so that only the training differs.
import { EmbeddedEngine } from "../../src/serving/embedded-engine.ts";
import type { OpenedModel } from "../training-bench.ts";
import { f1, proportion } from "./statistics.ts";
import type { Proportion } from "./statistics.ts";
import type { ChatTask, Question } from "./tasks.ts";

const IN_FLIGHT = 16;

export interface Score {
  exact: Proportion;
  /** Over the parts of all answers; null where an answer has none. */
  f1: number | null;
}

/** `adapter` null: the base model. */
export async function scoreOf(
  task: ChatTask,
  opened: OpenedModel,
  adapter: string | null,
  threads: number,
): Promise<Score> {
  const engine = new EmbeddedEngine({ threads });
  const answers: string[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let i = next++; i < task.test.length; i = next++)
      answers[i] = await answerOf(task.test[i] as Question);
  };
  try {
    await Promise.all(Array.from({ length: IN_FLIGHT }, worker));
  } finally {
    await engine.close();
  }
  const { isRight, partsOf } = task;
  const right = task.test.filter(({ wanted }, i) => isRight(answers[i] ?? "", wanted)).length;
  return {
    exact: proportion(right, task.test.length),
    f1:
      partsOf === null
        ? null
        : f1(
            task.test.map(({ wanted }, i) => ({ given: partsOf(answers[i] ?? ""), wanted: partsOf(wanted) })),
          ),
  };

  async function answerOf({ messages }: Question): Promise<string> {
    let text = "";
    const events = engine.complete({
      model: { id: "quality", baseModel: { id: opened.id, path: opened.path }, adapterPath: adapter },
      messages,
      maxTokens: task.maxAnswerTokens,
      temperature: 0,
      topP: 1,
      seed: 1,
      stop: [],
      n: 1,
      signal: new AbortController().signal,
    });
    for await (const event of events) if (event.type === "text-delta") text += event.text;
    return text;
  }
}
