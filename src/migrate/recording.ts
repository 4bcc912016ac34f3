// A recording: the journal of what an old model was asked and answered, a JSON object a line, only ever added to. A request is noted before
// it is sent, so that a killed process leaves nothing unaccounted for; an answer counts when its line is flushed.
import { createHash, randomBytes } from "node:crypto";
import { lstat, mkdir, open, readdir, type FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { fileLines } from "../data/file-lines.ts";
import { InvalidRequest } from "../errors.ts";
import { flushDirectory } from "../model/atomic-write.ts";
import type { PromptRequest } from "./prompts.ts";

export const RECORDINGS_FOLDER = "recordings";

/** One line: a prompt and its answer. */
const MAX_LINE_BYTES = 32 * 1024 * 1024;
/** Recordings of one folder that are looked at. */
const MAX_RECORDINGS = 1_000;

const header = z.strictObject({
  type: z.literal("recording"),
  version: z.literal(1),
  model: z.string().min(1),
  base_url: z.string(),
  created_at: z.int(),
});

const request = z.looseObject({
  messages: z.array(z.looseObject({ role: z.string() })).min(1),
  max_completion_tokens: z.number(),
});
const answerMessage = z.looseObject({
  content: z.string().nullish(),
  refusal: z.string().nullish(),
  tool_calls: z
    .array(z.looseObject({ function: z.looseObject({ name: z.string(), arguments: z.string() }) }))
    .nullish(),
});
export type AnswerMessage = z.infer<typeof answerMessage>;

const sent = z.strictObject({
  type: z.literal("sent"),
  attempt: z.string(),
  key: z.string(),
  worst_usd: z.number().min(0),
});
const answered = z.strictObject({
  type: z.literal("answer"),
  attempt: z.string(),
  key: z.string(),
  line: z.int(),
  request,
  reference: z.string().nullable(),
  message: answerMessage,
  finish_reason: z.string().nullable(),
  usage: z.looseObject({ prompt_tokens: z.number(), completion_tokens: z.number() }).nullable(),
  cost_usd: z.number().min(0),
  answered_at: z.int(),
});
const ended = z.strictObject({
  type: z.literal("error"),
  attempt: z.string(),
  key: z.string(),
  line: z.int(),
  status: z.int().nullable(),
  message: z.string(),
  /** 0 for what OpenAI refused; the worst case where nobody knows. */
  cost_usd: z.number().min(0),
});
const entry = z.discriminatedUnion("type", [sent, answered, ended]);
type Entry = z.infer<typeof entry>;
export type RecordedAnswer = z.infer<typeof answered>;

export interface Recording {
  path: string;
  model: string;
  /** By the prompt's key, as first answered. */
  answers: Map<string, RecordedAnswer>;
  /** US dollars of all that was sent: known costs, and the worst case where an end is not known. */
  spentUsd: number;
  /** Bytes up to the end of the last whole line. What a kill left behind it is no line. */
  wholeBytes: number;
  /** Bytes behind that. */
  tornBytes: number;
}

/** The file of a model's recording. A model's name has colons, and some file systems no room for them. */
export function recordingPath(directory: string, model: string): string {
  const readable = model.replaceAll(/[^A-Za-z0-9.-]+/g, "_").slice(0, 80);
  const hash = createHash("sha256").update(model).digest("hex").slice(0, 8);
  return join(directory, RECORDINGS_FOLDER, `${readable}-${hash}.jsonl`);
}

/** Null where there is none. Throws InvalidRequest naming the line that is none of ours. */
export async function readRecording(path: string): Promise<Recording | null> {
  const found = await lstat(path).catch(() => null);
  if (found === null) return null;
  if (!found.isFile()) throw new InvalidRequest(`${path} is no recording: expected a plain file.`);
  const answers = new Map<string, RecordedAnswer>();
  const open = new Map<string, number>();
  let model: string | null = null;
  let spentUsd = 0;
  let wholeBytes = 0;
  for await (const { number, bytes, endsAt } of fileLines(path, { maxLineBytes: MAX_LINE_BYTES })) {
    // Without its line feed a line is what a kill left of one.
    if (endsAt === found.size && !(await endsWithLineFeed(path, endsAt))) break;
    const parsed = parseLine(bytes, number === 1 ? header : entry);
    if (parsed === null)
      throw new InvalidRequest(
        `${path} is damaged at line ${number}: it is none that "tunesmith migrate openai record" writes. Take the line out, or record into another folder.`,
      );
    wholeBytes = endsAt;
    if (parsed.type === "recording") model = parsed.model;
    else if (parsed.type === "sent") open.set(parsed.attempt, parsed.worst_usd);
    else {
      open.delete(parsed.attempt);
      spentUsd += parsed.cost_usd;
      if (parsed.type === "answer" && !answers.has(parsed.key)) answers.set(parsed.key, parsed);
    }
  }
  for (const worst of open.values()) spentUsd += worst;
  if (model === null) {
    if (found.size === 0 || wholeBytes === 0) return null;
    throw new InvalidRequest(`${path} is no recording: its first line does not say of which model.`);
  }
  return { path, model, answers, spentUsd, wholeBytes, tornBytes: found.size - wholeBytes };
}

function parseLine<Schema extends z.ZodType>(bytes: Buffer | null, schema: Schema): z.infer<Schema> | null {
  if (bytes === null) return null;
  try {
    const parsed = schema.safeParse(JSON.parse(bytes.toString()));
    return parsed.success ? parsed.data : null;
  } catch {
    return null;
  }
}

async function endsWithLineFeed(path: string, endsAt: number): Promise<boolean> {
  const file = await open(path, "r");
  try {
    const { bytesRead, buffer } = await file.read(Buffer.alloc(1), 0, 1, endsAt - 1);
    return bytesRead === 1 && buffer[0] === 0x0a;
  } finally {
    await file.close();
  }
}

/** The recording that was asked for by file or model, or the only one. */
export async function findRecording(directory: string, asked: string | null): Promise<Recording> {
  const names = (await readdir(join(directory, RECORDINGS_FOLDER)).catch((): string[] => []))
    .filter((name) => name.endsWith(".jsonl"))
    .slice(0, MAX_RECORDINGS);
  if (asked !== null) {
    const found = (await readRecording(recordingPath(directory, asked))) ?? (await readRecording(asked));
    if (found !== null) return found;
    throw new InvalidRequest(
      `There is no recording "${asked}": expected a file, or a model that was recorded in ${directory}. While the model still answers, make one with "tunesmith migrate openai record".`,
    );
  }
  const [only, ...others] = names;
  if (only === undefined)
    throw new InvalidRequest(
      `${directory} has no recordings. While the old model still answers, make one with "tunesmith migrate openai record".`,
    );
  if (others.length > 0)
    throw new InvalidRequest(
      `${directory} has several recordings: ${names.join(", ")}. Name one, by its file or its model.`,
    );
  const found = await readRecording(join(directory, RECORDINGS_FOLDER, only));
  if (found !== null) return found;
  throw new InvalidRequest(`The recording ${only} is empty.`);
}

export class RecordingWriter {
  readonly #file: FileHandle;
  #queue: Promise<void> = Promise.resolve();

  private constructor(file: FileHandle) {
    this.#file = file;
  }

  /** Opens the recording for adding, or makes it; what a kill left of a line is cut off. Only under the folder's lock. */
  static async open(
    path: string,
    about: { model: string; baseUrl: string },
    earlier: Recording | null,
  ): Promise<RecordingWriter> {
    const directory = join(path, "..");
    await mkdir(directory, { recursive: true });
    const file = await open(path, "a");
    await file.truncate(earlier?.wholeBytes ?? 0);
    const writer = new RecordingWriter(file);
    if (earlier === null) {
      const created_at = Math.floor(Date.now() / 1000);
      await writer.#append({
        type: "recording",
        version: 1,
        model: about.model,
        base_url: about.baseUrl,
        created_at,
      });
    }
    await file.sync();
    await flushDirectory(directory);
    return writer;
  }

  /** Notes that a request is about to be sent. Returns its name for what becomes of it. */
  async sent(key: string, worstUsd: number): Promise<string> {
    const attempt = randomBytes(6).toString("hex");
    await this.#append({ type: "sent", attempt, key, worst_usd: worstUsd } satisfies Entry);
    return attempt;
  }

  async answered(
    answer: Omit<RecordedAnswer, "type" | "request"> & { request: PromptRequest },
  ): Promise<void> {
    await this.#append({ type: "answer", ...answer });
  }

  async failed(failure: Omit<z.infer<typeof ended>, "type">): Promise<void> {
    await this.#append({ type: "error", ...failure } satisfies Entry);
  }

  /** One whole line after the other, each on the disk before the next. */
  async #append(line: object): Promise<void> {
    const write = this.#queue.then(async () => {
      await this.#file.appendFile(`${JSON.stringify(line)}\n`);
      await this.#file.datasync();
    });
    // Behind half a line nothing may be added: once a write has failed, so do all others.
    this.#queue = write;
    await write;
  }

  async close(): Promise<void> {
    await this.#queue.catch(() => undefined);
    await this.#file.close();
  }
}
