// Graders that ask a model: the prompt, the shape its answer must have, and what is read from it. Which model answers, and
// how, is the business of whoever passes `complete` in.
import { Cancelled, TunesmithError } from "../errors.ts";
import type { GraderMessage, LabelModelGrader, ScoreModelGrader } from "../wire/graders.ts";
import { GradingFault } from "./grading-fault.ts";
import type { GradingContext } from "./sample.ts";
import { fillTemplate, parseTemplate } from "./template.ts";

export interface CompleteRequest {
  model: string;
  messages: readonly { role: GraderMessage["role"]; content: string }[];
  /** What the answer must be: a strict JSON schema it is held to. The prompt says it too, so that a judge knows what is asked. */
  schema: { name: string; schema: Readonly<Record<string, unknown>> };
  maxTokens: number;
  /** Null: as chat does without it. */
  temperature: number | null;
  topP: number | null;
  seed: number | null;
  signal: AbortSignal;
}

export interface Completion {
  text: string;
  refusal: string | null;
  /** The name of the model that answered, aliases resolved. */
  model: string;
  promptTokens: number;
  completionTokens: number;
  cachedTokens: number;
}

/** Asks a model of this server. */
export type Complete = (request: CompleteRequest) => Promise<Completion>;

export interface Judgement {
  score: number;
  /** Null when the model was not asked or did not answer. */
  completion: Completion | null;
  fault: GradingFault | null;
}

/** Tokens of a judge's answer where the grader sets none: a model that never ends its steps must not hold the engine. */
export const DEFAULT_JUDGE_TOKENS = 2048;

/** A judge that never stops reasoning would not end its JSON: so many steps, and characters of each text in them. */
const MAX_JUDGE_STEPS = 4;
const MAX_STEP_CHARACTERS = 200;

const DEFAULT_RANGE = [0, 1] as const;

/** A number from the model, clamped to the grader's range; 0 for an answer that holds none. */
export async function scoreByModel(
  grader: ScoreModelGrader,
  context: GradingContext,
  complete: Complete,
  signal: AbortSignal,
): Promise<Judgement> {
  const [least, most] = [grader.range?.[0] ?? DEFAULT_RANGE[0], grader.range?.[1] ?? DEFAULT_RANGE[1]];
  const sampling = grader.sampling_params ?? {};
  return judge(
    {
      model: grader.model,
      messages: prompt(
        grader.input,
        context,
        `The number is the score, from ${least} to ${most}: {"result": number, "steps": [{"description": text, "conclusion": text}]}`,
      ),
      schema: answerSchema("score", { type: "number" }),
      maxTokens: sampling.max_completions_tokens ?? DEFAULT_JUDGE_TOKENS,
      temperature: sampling.temperature ?? null,
      topP: sampling.top_p ?? null,
      seed: sampling.seed ?? null,
      signal,
    },
    complete,
    (text) => {
      const result = resultOf(text, /"result"\s*:\s*(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)/);
      // A number beyond what JavaScript holds is read as infinite, and clamped as any other; the word is no number of JSON.
      const score = typeof result === "string" && /\d/.test(result) ? Number(result) : result;
      if (typeof score === "number" && !Number.isNaN(score)) return Math.min(most, Math.max(least, score));
      return null;
    },
  );
}

/** 1 when the model chose a passing label, else 0. */
export async function labelByModel(
  grader: LabelModelGrader,
  context: GradingContext,
  complete: Complete,
  signal: AbortSignal,
): Promise<Judgement> {
  const choices = grader.labels.map((label) => JSON.stringify(label)).join(", ");
  return judge(
    {
      model: grader.model,
      messages: prompt(
        grader.input,
        context,
        `The label is one of ${choices}: {"result": label, "steps": [{"description": text, "conclusion": text}]}`,
      ),
      schema: answerSchema("label", { type: "string", enum: grader.labels }),
      maxTokens: DEFAULT_JUDGE_TOKENS,
      temperature: null,
      topP: null,
      seed: null,
      signal,
    },
    complete,
    (text) => {
      const label = resultOf(text, /"result"\s*:\s*("(?:[^"\\]|\\.)*")/);
      if (typeof label !== "string" || !grader.labels.includes(label)) return null;
      return grader.passing_labels.includes(label) ? 1 : 0;
    },
  );
}

async function judge(
  request: CompleteRequest,
  complete: Complete,
  read: (text: string) => number | null,
): Promise<Judgement> {
  let completion: Completion;
  try {
    completion = await complete(request);
  } catch (error) {
    if (!(error instanceof TunesmithError) || error instanceof Cancelled || request.signal.aborted)
      throw error;
    const fault = new GradingFault("model_grader_server_error", error.message, { cause: error });
    return { score: 0, completion: null, fault };
  }
  const failed = (flag: "model_grader_refusal_error" | "model_grader_parse_error", message: string) => ({
    score: 0,
    completion,
    fault: new GradingFault(flag, message),
  });
  if (completion.refusal !== null)
    return failed("model_grader_refusal_error", "The judge refused to answer.");
  const score = read(completion.text);
  if (score !== null) return { score, completion, fault: null };
  return failed("model_grader_parse_error", "The judge's answer holds no usable 'result'.");
}

/** The grader's messages, filled in, with the shape of the answer said in the first system message. */
function prompt(
  input: readonly GraderMessage[],
  context: GradingContext,
  shape: string,
): CompleteRequest["messages"] {
  const instruction = `Answer with one JSON object and nothing else. ${shape}`;
  const messages = input.map(({ role, content }) => ({ role, content: contentText(content, context) }));
  const [first, ...rest] = messages;
  if (first?.role !== "system" && first?.role !== "developer") {
    return [{ role: "system", content: instruction }, ...messages];
  }
  return [{ role: first.role, content: `${first.content}\n\n${instruction}` }, ...rest];
}

function contentText(content: GraderMessage["content"], context: GradingContext): string {
  return graderTexts(content)
    .map((text) => fillTemplate(parseTemplate(text), context))
    .join("");
}

/** The texts of a message's content, each of which may be a template. */
export function graderTexts(content: GraderMessage["content"]): string[] {
  const parts = Array.isArray(content) ? content : [content];
  return parts.map((part) => (typeof part === "string" ? part : part.text));
}

/** What OpenAI asks of its judges: the result, and the steps that led to it. */
function answerSchema(name: string, result: Record<string, unknown>): CompleteRequest["schema"] {
  const object = (properties: Record<string, unknown>) => ({
    type: "object",
    properties,
    required: Object.keys(properties),
    additionalProperties: false,
  });
  const text = { type: "string", maxLength: MAX_STEP_CHARACTERS };
  const step = object({ description: text, conclusion: text });
  return {
    name,
    schema: object({ result, steps: { type: "array", maxItems: MAX_JUDGE_STEPS, items: step } }),
  };
}

/**
 * The result in a judge's answer: of JSON, of JSON in other text, of JSON that was cut off behind the result, or the whole
 * answer where it is a bare number or text.
 */
function resultOf(text: string, pattern: RegExp): unknown {
  const whole = parsed(text);
  if (typeof whole === "number" || typeof whole === "string") return whole;
  const inside = whole ?? parsed(text.slice(text.indexOf("{"), text.lastIndexOf("}") + 1));
  if (typeof inside === "object" && inside !== null && "result" in inside) return inside.result;
  const cut = pattern.exec(text)?.[1];
  return cut === undefined ? text.trim() : parsed(cut);
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
