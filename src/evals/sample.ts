// The two namespaces that templates and Python graders read: the model's answer and the row of data. Their members have
// OpenAI's names, because templates spell them.
import { isDeeperThan } from "../wire/depth.ts";
import { MAX_ITEM_DEPTH } from "../wire/graders.ts";

/** What a model answered. */
export interface Sample {
  output_text: string;
  /** Undefined: the text is no JSON, or deeper than an item may be. */
  output_json: unknown;
  output_tools: readonly unknown[];
  choices: readonly unknown[];
  output_audio: unknown;
}

export interface GradingContext {
  item: Readonly<Record<string, unknown>>;
  sample: Sample;
}

/** The sample that is nothing but a text. */
export function sampleOfText(text: string): Sample {
  return {
    output_text: text,
    output_json: parsed(text),
    output_tools: [],
    choices: [
      {
        index: 0,
        message: { role: "assistant", content: text, refusal: null },
        finish_reason: "stop",
        logprobs: null,
      },
    ],
    output_audio: null,
  };
}

function parsed(text: string): unknown {
  try {
    const value: unknown = JSON.parse(text);
    return isDeeperThan(value, MAX_ITEM_DEPTH) ? undefined : value;
  } catch {
    return undefined;
  }
}
