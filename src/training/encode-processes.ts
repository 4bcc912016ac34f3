// Encoding in processes beside the trainer's own, which reads the weights meanwhile: of thousands of rows it is the longest part of a
// job's start. This file is both ends: what starts the processes, and, run as a program, the process itself.
import { fork } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { on, once } from "node:events";
import { createChatTemplate } from "../data/chat-template.ts";
import type { Line } from "../data/dataset.ts";
import { createTokenizer } from "../data/tokenizer.ts";
import { fromPlain, toPlain } from "../errors.ts";
import type { PlainError } from "../errors.ts";
import { openBaseModel } from "../model/base-model.ts";
import { packageProgram } from "../package-program.ts";
import type { TrainingMethod } from "./job-directory.ts";
import { addEncoded, encodeLines, LINE_ENCODINGS, nothingEncoded } from "./line-encoding.ts";
import type { EncodedLines, LineEncoding } from "./line-encoding.ts";

/** What a process is told first. */
interface Assignment {
  modelPath: string;
  method: TrainingMethod;
  /** As EncodeOptions. */
  maxLength: number;
}

type Answer = { encoded: EncodedLines<unknown> } | { fault: PlainError };

/** Data of fewer bytes is encoded sooner than a process has started. */
export const MIN_BYTES_FOR_PROCESSES = 500_000;

interface Helper {
  child: ChildProcess;
  /** Rejects when the process ends, for whatever reason. */
  gone: Promise<never>;
}

/** Processes that encode what they are given until they are ended. */
export class EncodingProcesses {
  readonly #helpers: readonly Helper[];
  readonly #signal: AbortSignal;

  constructor(count: number, assignment: Assignment, signal: AbortSignal) {
    this.#signal = signal;
    this.#helpers = Array.from({ length: count }, () => start(assignment));
  }

  /** A LineEncoder of the method that they were started for. An abort of the signal ends the wait, not the processes. */
  async encode<Content extends object, Example>(
    lines: readonly Line<Content>[],
  ): Promise<EncodedLines<Example>> {
    const share = Math.ceil(lines.length / this.#helpers.length);
    const parts = await Promise.all(
      this.#helpers.map((helper, i) => this.#ask(helper, lines.slice(i * share, (i + 1) * share))),
    );
    const all = nothingEncoded<Example>();
    for (const part of parts) addEncoded(all, part as EncodedLines<Example>);
    return all;
  }

  async #ask({ child, gone }: Helper, lines: readonly Line<object>[]): Promise<EncodedLines<unknown>> {
    const waiting = new AbortController();
    const signal = AbortSignal.any([this.#signal, waiting.signal]);
    try {
      const answered = once(child, "message", { signal }) as Promise<[Answer]>;
      if (child.connected) child.send([...lines]);
      const [answer] = await Promise.race([answered, gone]);
      if ("fault" in answer) throw fromPlain(answer.fault);
      return answer.encoded;
    } catch (error) {
      this.#signal.throwIfAborted();
      throw error;
    } finally {
      waiting.abort();
    }
  }

  end(): void {
    for (const { child } of this.#helpers) child.kill("SIGKILL");
  }
}

function start(assignment: Assignment): Helper {
  const { entry, nodeOptions } = packageProgram("training/encode-processes");
  // Typed arrays stay what they are.
  const child = fork(entry, [], {
    execArgv: [...nodeOptions],
    stdio: ["ignore", "ignore", "inherit", "ipc"],
    serialization: "advanced",
  });
  const gone = new Promise<never>((_, reject) => {
    child.once("error", reject);
    child.once("exit", (code, by) =>
      reject(
        new Error(
          `internal: a process that encodes data ended with ${by === null ? `code ${code}` : `signal ${by}`} and no answer`,
        ),
      ),
    );
  });
  gone.catch(() => undefined); // seen by those who wait for an answer
  child.send(assignment);
  return { child, gone };
}

/** Answers each list of lines in the order in which they come; ends with the channel, because nothing else keeps it alive. */
async function serve(): Promise<void> {
  // One listener from the start: messages that come at once would be lost between two.
  const messages = on(process, "message", { close: ["disconnect"] }) as AsyncIterableIterator<[unknown]>;
  const first = (await messages.next()) as IteratorResult<[unknown], undefined>;
  if (first.done === true) return;
  const { modelPath, method, maxLength } = first.value[0] as Assignment;
  const model = await openBaseModel(modelPath);
  await model.close();
  const options = {
    tokenizer: createTokenizer(model.tokenizer),
    template: createChatTemplate(model.tokenizer),
    maxLength,
  };
  const encoding = LINE_ENCODINGS[method] as unknown as LineEncoding<object, unknown>;
  for await (const [lines] of messages)
    process.send?.(encodedOrFault(lines as Line<object>[], encoding, options));
}

function encodedOrFault(...given: Parameters<typeof encodeLines<object, unknown>>): Answer {
  try {
    return { encoded: encodeLines(...given) };
  } catch (error) {
    return { fault: toPlain(error) };
  }
}

if (import.meta.filename === process.argv[1]) await serve();
