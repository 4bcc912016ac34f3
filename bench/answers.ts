// Whole answers through the engine: the 110 held-out tickets of examples/ticket-triage, greedy, 16 requests in flight, as the
// quickstart asks them but without HTTP. Prints one JSON object on the last line.
// `npm run bench:answers -- --json [--adapter FOLDER] [--tickets 110] [--in-flight 16] [--max-tokens 48] [--rounds 1]`
import { createHash } from "node:crypto";
import { availableParallelism, cpus } from "node:os";
import { parseArgs } from "node:util";
import { readTickets } from "../examples/ticket-triage/evaluate.ts";
import { loadConfig } from "../src/config.ts";
import type { ChatMessage } from "../src/data/chat-message.ts";
import { resolveBaseModel } from "../src/model/resolve-base-model.ts";
import { EmbeddedEngine } from "../src/serving/embedded-engine.ts";

const { values: options } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    model: { type: "string", default: "smollm2-135m-instruct" },
    adapter: { type: "string" },
    tickets: { type: "string", default: "110" },
    "in-flight": { type: "string", default: "16" },
    "max-tokens": { type: "string", default: "48" },
    rounds: { type: "string", default: "1" },
    threads: { type: "string", default: String(availableParallelism()) },
  },
});
const say = (line: string): void => void (options.json ? process.stderr : process.stdout).write(`${line}\n`);

const threads = Number(options.threads);
const inFlight = Number(options["in-flight"]);
const maxTokens = Number(options["max-tokens"]);
const base = await resolveBaseModel(options.model, loadConfig());
const tickets = (await readTickets("examples/ticket-triage/held-out.jsonl")).slice(
  0,
  Number(options.tickets),
);
const engine = new EmbeddedEngine({ threads });
const model = { id: "bench", baseModel: base, adapterPath: options.adapter ?? null };

interface Answer {
  text: string;
  promptTokens: number;
  completionTokens: number;
}

async function ask(messages: readonly ChatMessage[]): Promise<Answer> {
  const answer: Answer = { text: "", promptTokens: 0, completionTokens: 0 };
  const events = engine.complete({
    model,
    messages,
    maxTokens,
    temperature: 0,
    topP: 1,
    seed: 1,
    stop: [],
    n: 1,
    signal: new AbortController().signal,
  });
  for await (const event of events) {
    if (event.type === "prompt") answer.promptTokens = event.promptTokens;
    else if (event.type === "text-delta") answer.text += event.text;
    else if (event.type === "finish") answer.completionTokens = event.completionTokens;
  }
  return answer;
}

// Loading the model and compiling the graph are not measured.
await ask([{ role: "user", content: "Hello" }]);

const rounds = [];
for (let round = 0; round < Number(options.rounds); round++) {
  const answers: Answer[] = [];
  let next = 0;
  const cpuStart = process.cpuUsage();
  const start = performance.now();
  const worker = async (): Promise<void> => {
    for (let i = next++; i < tickets.length; i = next++)
      answers[i] = await ask(tickets[i]?.messages as ChatMessage[]);
  };
  await Promise.all(Array.from({ length: inFlight }, worker));
  const seconds = (performance.now() - start) / 1000;
  const cpu = process.cpuUsage(cpuStart);
  const sum = (count: (answer: Answer) => number): number =>
    answers.reduce((total, answer) => total + count(answer), 0);
  const completionTokens = sum((answer) => answer.completionTokens);
  rounds.push({
    seconds,
    // Of all threads: what a shared machine's other work hardly moves.
    cpu_seconds: (cpu.user + cpu.system) / 1e6,
    tokens_per_second: completionTokens / seconds,
    prompt_tokens: sum((answer) => answer.promptTokens),
    completion_tokens: completionTokens,
    // Equal texts give equal digests: tells whether a change moved an answer.
    digest: createHash("sha256")
      .update(JSON.stringify(answers.map(({ text }) => text)))
      .digest("hex")
      .slice(0, 12),
  });
  say(`round ${round + 1}: ${seconds.toFixed(1)} s, ${(completionTokens / seconds).toFixed(0)} tokens/s`);
}
await engine.close();

const result = {
  rounds,
  tickets: tickets.length,
  in_flight: inFlight,
  peak_rss_bytes: process.resourceUsage().maxRSS * 1024,
  model: base.id,
  adapter: options.adapter ?? null,
  threads,
  cpu: cpus()[0]?.model ?? "unknown",
  node: process.version,
};
if (options.json) process.stdout.write(`${JSON.stringify(result)}\n`);
