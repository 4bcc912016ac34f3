// The Vercel AI SDK against a server, through its provider for OpenAI-compatible servers.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, embedMany, generateText, Output, stepCountIs, streamText, tool } from "ai";
import { afterAll, beforeAll, expect, test } from "vitest";
import { z } from "zod";
import { cleanUp, JOB_TIMEOUT_MS } from "../e2e/harness.ts";
import { EMBEDDING_MODEL, EMBEDDING_WIDTH, startServer, tunedModel } from "./harness.ts";

let provider: ReturnType<typeof createOpenAICompatible>;
let name: string;

beforeAll(async () => {
  const server = await startServer();
  name = await tunedModel(server);
  provider = createOpenAICompatible({
    name: "tunesmith",
    baseURL: server.baseURL,
    apiKey: server.key,
    includeUsage: true,
    supportsStructuredOutputs: true,
  });
}, JOB_TIMEOUT_MS);
afterAll(cleanUp);

const ask = () => ({
  model: provider(name),
  system: "Set the category.",
  prompt: "Ticket 3: please help me with my delivery.",
  maxRetries: 0,
});
const short = { temperature: 0, maxOutputTokens: 16 };
const label = z.object({ category: z.enum(["billing", "refund"]), urgent: z.boolean() });
const city = z.strictObject({ city: z.enum(["Paris", "Rome"]) });
const weather = tool({ inputSchema: city, execute: async (input) => `sunny in ${input.city}` });

test("text, whole and streamed alike, with usage", async () => {
  const whole = await generateText({ ...ask(), ...short });
  const stream = streamText({ ...ask(), ...short });
  let text = "";
  for await (const piece of stream.textStream) text += piece;
  expect(text).toBe(whole.text);
  expect((await stream.usage).totalTokens).toBe(whole.usage.totalTokens);
  expect(whole.usage.totalTokens).toBeGreaterThan(0);
});

test("structured output", async () => {
  const { output } = await generateText({ ...ask(), output: Output.object({ schema: label }) });
  expect(label.parse(output)).toEqual(output);
});

test("a tool is called, and its result is sent back", async () => {
  const { steps } = await generateText({
    ...ask(),
    tools: { weather },
    toolChoice: "required",
    stopWhen: stepCountIs(2),
  });
  expect(steps).toHaveLength(2);
  for (const { toolCalls, toolResults } of steps) {
    expect(city.safeParse(toolCalls[0]?.input)).toMatchObject({ success: true });
    expect(toolResults[0]?.output).toMatch(/^sunny in /);
  }
});

test("a streamed tool call", async () => {
  const stream = streamText({ ...ask(), tools: { weather }, toolChoice: "required" });
  const calls = await stream.toolCalls;
  expect(calls[0]).toMatchObject({ toolName: "weather" });
});

test("tools beside structured output", async () => {
  const { toolCalls, text } = await generateText({
    ...ask(),
    tools: { weather },
    output: Output.object({ schema: label }),
  });
  if (toolCalls.length === 0) label.parse(JSON.parse(text));
  else expect(toolCalls[0]?.toolName).toBe("weather");
});

test("embeddings", async () => {
  const model = provider.embeddingModel(EMBEDDING_MODEL);
  const { embeddings, usage } = await embedMany({ model, values: ["the quick fox", "refund"] });
  expect(embeddings.map((each) => each.length)).toEqual([EMBEDDING_WIDTH, EMBEDDING_WIDTH]);
  expect(usage.tokens).toBeGreaterThan(0);
});

test("errors keep their status and message", async () => {
  const error = await generateText({ ...ask(), model: provider("gpt-9") }).catch((error: unknown) => error);
  expect(error).toBeInstanceOf(APICallError);
  expect(error).toMatchObject({
    statusCode: 404,
    message: "The model 'gpt-9' does not exist or you do not have access to it.",
  });
});
