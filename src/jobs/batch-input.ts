// The input file of a batch: read line by line, and judged as a whole before any line runs. Every fault has the line, code and
// parameter that OpenAI's batches name. It knows no store.
import { fileLines } from "../data/file-lines.ts";
import { TunesmithError } from "../errors.ts";
import { batchRequestLine, MAX_BATCH_EMBEDDING_INPUTS, MAX_BATCH_LINES } from "../wire/batches.ts";
import type { BatchError, BatchRequestLine } from "../wire/batches.ts";
import { isDeeperThan, MAX_REQUEST_DEPTH } from "../wire/depth.ts";
import { parseRequest } from "../wire/validation.ts";

/** Faults that a failed batch lists: the whole list is part of every answer about it. */
const MAX_BATCH_ERRORS = 100;

export interface BatchInputOptions {
  endpoint: string;
  /** A line's body is the body of a request. */
  maxLineBytes: number;
  signal: AbortSignal;
}

export type BatchInputReport =
  | { model: string; total: number; errors: null }
  /** In the order of the lines; not empty. */
  | { errors: BatchError[] };

/** Each line that holds something, with its 1-based number; null in place of one that is too long. */
export async function* requestLines(
  path: string,
  { maxLineBytes, signal }: Pick<BatchInputOptions, "maxLineBytes" | "signal">,
): AsyncGenerator<{ number: number; text: string | null }, void, void> {
  for await (const { number, bytes } of fileLines(path, { maxLineBytes, signal })) {
    const text = bytes?.toString("utf8") ?? null;
    if (text === null || text.trim() !== "") yield { number, text };
  }
}

/** A line that `judgeBatchInput` has found in order. */
export function parseBatchLine(text: string): BatchRequestLine {
  return JSON.parse(text) as BatchRequestLine;
}

/** Reads the whole file. `modelExists` is asked once. */
export async function judgeBatchInput(
  path: string,
  options: BatchInputOptions & { modelExists: (model: string) => Promise<boolean> },
): Promise<BatchInputReport> {
  const errors: BatchError[] = [];
  const customIds = new Set<string>();
  let model: string | null = null;
  let total = 0;
  let embeddingInputs = 0;
  for await (const { number, text } of requestLines(path, options)) {
    total += 1;
    if (total > MAX_BATCH_LINES) {
      errors.push(tooManyLines());
      break;
    }
    const fault = (code: string, param: string | null, message: string): void => {
      errors.push({ code, message, param, line: number });
    };
    const line = readLine(text, options, fault);
    if (line !== null) {
      if (customIds.has(line.custom_id)) {
        fault(
          "duplicate_custom_id",
          "custom_id",
          `The custom_id '${shortened(line.custom_id)}' is used by an earlier line too. Each request of a batch needs a custom_id of its own.`,
        );
      }
      customIds.add(line.custom_id);
      if (model === null) {
        model = line.body.model;
        if (!(await options.modelExists(model))) {
          fault("model_not_found", "body.model", `The model '${shortened(model)}' does not exist.`);
        }
      } else if (line.body.model !== model) {
        fault(
          "model_mismatch",
          "body.model",
          `The model '${shortened(line.body.model)}' is not that of the first line, '${shortened(model)}'. A batch runs on one model: make a file for each.`,
        );
      }
      embeddingInputs += inputsOf(line);
      if (options.endpoint === "/v1/embeddings" && embeddingInputs > MAX_BATCH_EMBEDDING_INPUTS) {
        errors.push(tooManyInputs());
        break;
      }
    }
    if (errors.length >= MAX_BATCH_ERRORS) break;
  }
  if (total === 0) errors.push(emptyFile());
  return errors.length > 0 || model === null ? { errors } : { model, total, errors: null };
}

/** Null after a fault. */
function readLine(
  text: string | null,
  { endpoint, maxLineBytes }: BatchInputOptions,
  fault: (code: string, param: string | null, message: string) => void,
): BatchRequestLine | null {
  if (text === null) {
    fault(
      "request_too_large",
      null,
      `This line is longer than ${maxLineBytes} bytes, the most that a request may have. Shorten it.`,
    );
    return null;
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    fault("invalid_json_line", null, "This line is not parseable as valid JSON.");
    return null;
  }
  if (isDeeperThan(value, MAX_REQUEST_DEPTH)) {
    fault(
      "invalid_value",
      null,
      `This line nests deeper than ${MAX_REQUEST_DEPTH} levels of arrays and objects. Send flatter data.`,
    );
    return null;
  }
  try {
    const line = parseRequest(batchRequestLine, value);
    if (line.url === endpoint) return line;
    fault(
      "url_mismatch",
      "url",
      `The url '${shortened(line.url)}' is not the batch's endpoint, which is '${endpoint}'. All lines of a batch go to one endpoint.`,
    );
  } catch (error) {
    if (!(error instanceof TunesmithError)) throw error;
    fault(error.code ?? "invalid_request", error.param, error.message);
  }
  return null;
}

/** A text or a list of tokens is one input, a list of either as many as it has. */
function inputsOf({ body }: BatchRequestLine): number {
  const input = body["input"];
  return Array.isArray(input) && typeof input[0] !== "number" ? input.length : 1;
}

function emptyFile(): BatchError {
  return {
    code: "empty_file",
    message: "The input file is empty. Please ensure that the batch contains at least one request.",
    param: "input_file_id",
    line: null,
  };
}

function tooManyLines(): BatchError {
  return {
    code: "too_many_tasks",
    message: `The input file has more than ${MAX_BATCH_LINES} lines, the most that a batch may have. Split the file and create a batch for each part.`,
    param: "input_file_id",
    line: null,
  };
}

function tooManyInputs(): BatchError {
  return {
    code: "too_many_tasks",
    message: `The lines of the input file have more than ${MAX_BATCH_EMBEDDING_INPUTS} inputs together, the most that a batch of embeddings may have. Split the file and create a batch for each part.`,
    param: "input_file_id",
    line: null,
  };
}

/** A name from a file as it may stand in a message. */
const shortened = (text: string): string => (text.length > 80 ? `${text.slice(0, 77)}...` : text);
