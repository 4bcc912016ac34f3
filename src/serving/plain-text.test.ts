// Plain text through the embedded engine on the tiny model: prompts as they stand, and what the model thinks of their tokens.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeTinyModel } from "../../scripts/make-tiny-model.ts";
import { InvalidRequest } from "../errors.ts";
import { EmbeddedEngine } from "./embedded-engine.ts";
import type { CompletionEvent, PromptTokenReport, TextRequest, TokenReport } from "./engine.ts";
import { SCORED_CHUNK_TOKENS } from "./prompt-passes.ts";

let folder: string;
let engine: EmbeddedEngine;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tunesmith-text-"));
  await makeTinyModel(folder);
  engine = new EmbeddedEngine({ threads: 1 });
});

afterAll(async () => {
  await engine.close();
  await rm(folder, { recursive: true });
});

async function complete(changes: Partial<TextRequest>) {
  const events: CompletionEvent[] = [];
  const reports: TokenReport[] = [];
  let text = "";
  let prompt: { promptTokens: number; text?: string; logprobs?: readonly PromptTokenReport[] } | null = null;
  for await (const event of engine.completeText({
    model: { id: "tiny", baseModel: { id: "tiny", path: folder }, adapterPath: null },
    prompt: "Hello there",
    maxTokens: 8,
    temperature: 0,
    topP: 1,
    seed: 1,
    stop: [],
    n: 1,
    signal: new AbortController().signal,
    ...changes,
  })) {
    events.push(event);
    if (event.type === "prompt") prompt = event;
    if (event.type !== "text-delta" || event.index !== 0) continue;
    text += event.text;
    reports.push(...(event.logprobs ?? []));
  }
  if (prompt === null) throw new Error("no prompt event");
  return { events, text, reports, prompt: prompt };
}

describe("completeText", () => {
  it("goes on from a text, or from the same text as token ids", async () => {
    const texts = await complete({ topLogprobs: 0, scoresPrompt: true });
    expect(texts.prompt).toMatchObject({ text: "Hello there", promptTokens: texts.prompt.logprobs?.length });
    const ids = Array.from({ length: 20 }, (_, i) => 40 + i);
    const { prompt, text } = await complete({ prompt: ids });
    expect(prompt.promptTokens).toBe(20);
    expect((await complete({ prompt: prompt.text ?? "" })).text).toBe(text);
  });

  it("goes on from nothing as from the beginning of a text", async () => {
    const { prompt, reports } = await complete({ prompt: "", topLogprobs: 1, scoresPrompt: true });
    expect(prompt).toMatchObject({ promptTokens: 1, text: "" });
    expect(prompt).not.toHaveProperty("logprobs");
    expect(reports.length).toBeGreaterThan(0);
  });

  it("scores a prompt's tokens as it does when they are written one by one", async () => {
    const ids = Array.from({ length: SCORED_CHUNK_TOKENS * 2 + 9 }, (_, i) => 20 + ((i * 37) % 200));
    const { prompt } = await complete({ prompt: ids, maxTokens: 0, topLogprobs: 3, scoresPrompt: true });
    const scores = prompt.logprobs ?? [];
    expect(scores).toHaveLength(ids.length);
    expect(scores[0]).toMatchObject({ logprob: null, top: null });
    const borders = [
      1,
      2,
      SCORED_CHUNK_TOKENS - 1,
      SCORED_CHUNK_TOKENS,
      SCORED_CHUNK_TOKENS + 1,
      ids.length - 1,
    ];
    for (const place of borders) {
      const token = ids[place] as number;
      // Bias makes it the next token; its report knows no bias.
      const { reports } = await complete({
        prompt: ids.slice(0, place),
        maxTokens: 1,
        topLogprobs: 3,
        logitBias: new Map([[token, 100]]),
      });
      const [written] = reports;
      expect(scores[place]?.bytes).toEqual(written?.bytes);
      expect(scores[place]?.logprob).toBeCloseTo(written?.logprob ?? 0, 4);
      expect(scores[place]?.top?.map(({ bytes }) => bytes)).toEqual(written?.top.map(({ bytes }) => bytes));
    }
  });

  it("writes the same behind a prompt whether it was scored or not, for each answer", async () => {
    const scored = await complete({ topLogprobs: 2, scoresPrompt: true, n: 3, temperature: 1 });
    const plain = await complete({ topLogprobs: 2, n: 3, temperature: 1 });
    expect(scored.events[0]).toMatchObject({ type: "prompt" });
    expect(scored.events.filter(({ type }) => type === "prompt")).toHaveLength(1);
    expect(scored.text).toBe(plain.text);
    expect(scored.events.filter(({ type }) => type === "finish")).toHaveLength(3);
  });

  it.each([true, false])("reads a prompt and writes nothing (scored: %s)", async (scoresPrompt) => {
    const { events, text } = await complete({
      maxTokens: 0,
      n: 2,
      ...(scoresPrompt ? { scoresPrompt, topLogprobs: 0 } : {}),
    });
    expect(text).toBe("");
    expect(events.slice(1)).toEqual(
      [0, 1].map((index) => ({ type: "finish", index, reason: "length", completionTokens: 0 })),
    );
  });

  it("scores long prompts while others are answered, and the others the same as alone", async () => {
    const ids = Array.from({ length: 400 }, (_, i) => 20 + (i % 150));
    const score = () => complete({ prompt: ids, maxTokens: 2, topLogprobs: 0, scoresPrompt: true });
    const ask = () => complete({ maxTokens: 30 });
    const [alone, text] = [await score(), (await ask()).text];
    const together = await Promise.all([ask(), score(), ask(), score(), ask()]);
    expect(together.map(({ text }) => text)).toEqual([text, alone.text, text, alone.text, text]);
    const rounded = ({ prompt }: typeof alone) => prompt.logprobs?.map(({ logprob }) => logprob?.toFixed(3));
    expect(rounded(together[1])).toEqual(rounded(alone));
  });

  it("refuses token ids that the model does not have", async () => {
    await expect(complete({ prompt: [5, 999_999] })).rejects.toThrow(InvalidRequest);
    await expect(complete({ prompt: [5, 999_999] })).rejects.toThrow(
      /token 999999 is not in this model's vocabulary/,
    );
  });

  it("refuses a bias for them", async () => {
    const refused = complete({ logitBias: new Map([[999_999, 1]]) });
    await expect(refused).rejects.toMatchObject({ code: "invalid_value", param: "logit_bias" });
  });
});
