// `tunesmith chat`: one answer to a message, to standard input, or a conversation on a terminal. Text is printed as it comes.
import { createInterface } from "node:readline/promises";
import { text as readAll } from "node:stream/consumers";
import { InvalidRequest } from "../errors.ts";
import type { ChatCompletion, ChatCompletionChunk } from "../wire/chat.ts";
import { printNote, type CommandContext } from "./terminal.ts";

export interface ChatOptions {
  system?: string;
  temperature?: number;
  topP?: number;
  seed?: number;
  maxTokens?: number;
}

interface Message {
  role: "system" | "user" | "assistant";
  content: string;
}

export async function chat(
  context: CommandContext,
  model: string,
  message: string | undefined,
  options: ChatOptions,
): Promise<void> {
  const opening: Message[] =
    options.system === undefined ? [] : [{ role: "system", content: options.system }];
  const { stdin, stdout } = context.terminal;
  if (message === undefined && stdin.isTTY === true && stdout.isTTY === true && !context.json) {
    return converse(context, model, opening, options);
  }
  const content = message ?? (await readAll(stdin)).replace(/\r?\n$/, "");
  if (content === "") {
    throw new InvalidRequest(
      "Expected a message as the second argument or on standard input, found neither. Example: tunesmith chat MODEL 'Hello'",
    );
  }
  const messages: Message[] = [...opening, { role: "user", content }];
  if (context.json) {
    const body = requestBody(model, messages, options);
    const completion = await context.client.post<ChatCompletion>("/chat/completions", body);
    stdout.write(`${JSON.stringify(completion)}\n`);
    return;
  }
  await printStreamed(context, requestBody(model, messages, options), context.terminal.signal);
}

/** Questions and answers until Ctrl-D or /exit. Ctrl-C stops an answer; at the prompt it ends the conversation. */
async function converse(
  context: CommandContext,
  model: string,
  opening: readonly Message[],
  options: ChatOptions,
): Promise<void> {
  const { stdin, stdout, signal } = context.terminal;
  printNote(context, `Chatting with ${model}. /reset starts over, /exit or Ctrl-D ends.`);
  const lines = createInterface({ input: stdin, output: stdout });
  let messages = [...opening];
  try {
    for (;;) {
      const content = (await lines.question("> ", { signal })).trim();
      if (content === "/exit") return;
      if (content === "/reset") messages = [...opening];
      if (content === "" || content === "/reset") continue;
      const stop = new AbortController();
      const onInterrupt = (): void => stop.abort();
      lines.on("SIGINT", onInterrupt);
      const asked: Message[] = [...messages, { role: "user", content }];
      try {
        const either = AbortSignal.any([signal, stop.signal]);
        const answer = await printStreamed(context, requestBody(model, asked, options), either);
        messages = [...asked, { role: "assistant", content: answer }];
      } catch (error) {
        if (!stop.signal.aborted) throw error;
        stdout.write("\n(stopped; this exchange is forgotten)\n");
      } finally {
        lines.off("SIGINT", onInterrupt);
      }
    }
  } catch (error) {
    // The prompt rejects so on Ctrl-C and Ctrl-D: the way out, not a failure.
    if (error instanceof Error && error.name === "AbortError") return;
    throw error;
  } finally {
    lines.close();
  }
}

/** Prints the answer as it comes, ends the line, and returns the whole text. */
async function printStreamed(context: CommandContext, body: object, signal: AbortSignal): Promise<string> {
  const { stdout } = context.terminal;
  let answer = "";
  let finishReason: string | null = null;
  const chunks = context.client.stream<ChatCompletionChunk>(
    "/chat/completions",
    { ...body, stream: true },
    signal,
  );
  try {
    for await (const chunk of chunks) {
      const choice = chunk.choices[0];
      const text = choice?.delta.content ?? "";
      finishReason = choice?.finish_reason ?? finishReason;
      answer += text;
      stdout.write(text);
    }
  } finally {
    if (!answer.endsWith("\n") && answer !== "") stdout.write("\n");
  }
  if (finishReason === "length") {
    printNote(context, "(cut off at the token limit; raise it with --max-tokens)");
  }
  return answer;
}

function requestBody(model: string, messages: readonly Message[], options: ChatOptions): object {
  return {
    model,
    messages,
    temperature: options.temperature,
    top_p: options.topP,
    seed: options.seed,
    max_completion_tokens: options.maxTokens,
  };
}
