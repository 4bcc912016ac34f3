// A file of prompts: what each line asks a model, as the body of a chat completion. What is not understood is refused with its line, so that
// nothing of it is lost in silence or paid for in vain.
import { createHash } from "node:crypto";
import { lstat } from "node:fs/promises";
import { z } from "zod";
import { fileLines } from "../data/file-lines.ts";
import { InvalidRequest } from "../errors.ts";

/** One line: long prompts have some 100 KB. */
const MAX_PROMPT_BYTES = 4 * 1024 * 1024;
/** Prompts of one file: they are held in memory. */
const MAX_PROMPTS = 20_000;
/** All lines together, for the same reason. */
const MAX_PROMPTS_BYTES = 256 * 1024 * 1024;

const textPart = z.strictObject({ type: z.literal("text"), text: z.string() });
const toolCall = z.strictObject({
  id: z.string(),
  type: z.literal("function"),
  function: z.strictObject({ name: z.string(), arguments: z.string() }),
});
/** Text alone: what images and sounds cost cannot be bounded beforehand. */
const message = z.strictObject({
  role: z.enum(["system", "developer", "user", "assistant", "tool"]),
  content: z.union([z.string(), z.array(textPart).min(1), z.null()]).optional(),
  name: z.string().optional(),
  tool_calls: z.array(toolCall).optional(),
  tool_call_id: z.string().optional(),
  refusal: z.string().nullable().optional(),
  /** Of training rows; it says nothing to a model that answers. */
  weight: z.union([z.literal(0), z.literal(1)]).optional(),
});
export type PromptMessage = z.infer<typeof message>;

const line = z
  .strictObject({
    messages: z.array(message).min(1).optional(),
    prompt: z.string().min(1).optional(),
    tools: z.array(z.record(z.string(), z.unknown())).optional(),
    tool_choice: z.union([z.string(), z.record(z.string(), z.unknown())]).optional(),
    parallel_tool_calls: z.boolean().optional(),
    response_format: z.record(z.string(), z.unknown()).optional(),
    temperature: z.number().min(0).max(2).optional(),
    top_p: z.number().min(0).max(1).optional(),
    stop: z.union([z.string(), z.array(z.string())]).optional(),
    seed: z.int().optional(),
    presence_penalty: z.number().optional(),
    frequency_penalty: z.number().optional(),
    max_tokens: z.int().min(1).optional(),
    max_completion_tokens: z.int().min(1).optional(),
  })
  .refine(({ messages, prompt }) => (messages === undefined) !== (prompt === undefined), {
    message: 'expected "messages" or "prompt", and only one of them',
  })
  .refine((given) => given.max_tokens === undefined || given.max_completion_tokens === undefined, {
    message: '"max_tokens" and "max_completion_tokens" are the same thing: expected one of them',
  });

/** The body of a chat completion without the model. */
export interface PromptRequest {
  messages: PromptMessage[];
  max_completion_tokens: number;
  [setting: string]: unknown;
}

export interface Prompt {
  /** 1-based line of the file. */
  line: number;
  /** Of the request: equal prompts have equal keys. */
  key: string;
  request: PromptRequest;
  /** The answer that a training row carries; it is not sent. Graders see it as `item.reference`. */
  reference: string | null;
}

/** What a line that says nothing of it gets. */
export interface PromptDefaults {
  maxTokens: number;
  temperature: number;
}

/** Throws InvalidRequest that names file, line and member. */
export async function readPrompts(path: string, defaults: PromptDefaults): Promise<Prompt[]> {
  const found = await lstat(path).catch(() => null);
  if (found === null || found.isDirectory())
    throw new InvalidRequest(
      `Cannot read "${path}": expected a JSONL file of prompts, found ${found === null ? "nothing of that name" : "a folder"}.`,
    );
  if (found.size > MAX_PROMPTS_BYTES)
    throw new InvalidRequest(
      `${path} has ${found.size} bytes, more than ${MAX_PROMPTS_BYTES} for prompts. Split it.`,
    );
  const prompts: Prompt[] = [];
  for await (const { number, bytes } of fileLines(path, { maxLineBytes: MAX_PROMPT_BYTES })) {
    const refuse = (what: string) => new InvalidRequest(`${path}, line ${number}: ${what}`);
    if (bytes === null) throw refuse(`it is longer than ${MAX_PROMPT_BYTES} bytes.`);
    const text = bytes.toString();
    if (text.trim() === "") continue;
    if (prompts.length === MAX_PROMPTS)
      throw refuse(`there are more than ${MAX_PROMPTS} prompts. Split the file.`);
    prompts.push(readPrompt(number, text, defaults, refuse));
  }
  if (prompts.length === 0) throw new InvalidRequest(`${path} has no prompts.`);
  return prompts;
}

/** One line's prompt; `refuse` makes the error that names file and line. */
export function readPrompt(
  number: number,
  text: string,
  defaults: PromptDefaults,
  refuse: (what: string) => InvalidRequest,
): Prompt {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw refuse("it is no JSON.");
  }
  const parsed = line.safeParse(json);
  if (parsed.success) return promptOf(number, parsed.data, defaults);
  const issue = parsed.error.issues[0];
  const place = issue?.path.map(String).join(".") ?? "";
  throw refuse(
    `${place === "" ? "" : `"${place}": `}${issue?.message ?? ""}. See docs/migrate.md for what a prompt may hold.`,
  );
}

function promptOf(
  number: number,
  { messages, prompt, max_tokens, max_completion_tokens, temperature, ...settings }: z.infer<typeof line>,
  defaults: PromptDefaults,
): Prompt {
  const given: PromptMessage[] = messages ?? [{ role: "user", content: prompt ?? "" }];
  const last = given.at(-1);
  const isRow = last?.role === "assistant";
  const sent = isRow ? given.slice(0, -1) : given;
  if (sent.length === 0)
    throw new InvalidRequest(`Line ${number} has an answer and nothing that it answers.`);
  const request: PromptRequest = {
    messages: sent.map(({ weight: _weight, ...rest }) => rest),
    ...settings,
    temperature: temperature ?? defaults.temperature,
    max_completion_tokens: max_completion_tokens ?? max_tokens ?? defaults.maxTokens,
  };
  return {
    line: number,
    key: createHash("sha256").update(JSON.stringify(request)).digest("hex"),
    request,
    reference: isRow && typeof last.content === "string" ? last.content : null,
  };
}

/** What the messages say, for people and graders: the last text of the user. */
export function lastUserText(messages: readonly PromptMessage[]): string {
  const content = messages.findLast(({ role }) => role === "user")?.content ?? "";
  return typeof content === "string" ? content : content.map(({ text }) => text).join("");
}
