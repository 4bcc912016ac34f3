// A recording that is killed with -9 in the middle, again and again: no prompt is paid for twice but those that were on their way, and the
// cap holds over all of it.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import { expect, test } from "vitest";
import { readRecording, recordingPath } from "../../src/migrate/recording.ts";
import { BIN } from "../cli/fake-server.ts";
import { KEY } from "./fake-openai.ts";
import { oldModel, promptsFile, questions } from "./old-model.ts";
import { OLD_MODEL, openAi, temporaryFolder } from "./world.ts";

const PROMPTS = 40;
const AT_A_TIME = 4;

test("kill -9 in the middle of a recording", async () => {
  const model = oldModel(OLD_MODEL, { slowMs: 60, dear: true });
  const fake = await openAi({ chat: model.chat });
  const folder = temporaryFolder();
  const prompts = promptsFile(folder, questions(PROMPTS));
  const cap = 0.02;
  const words = [
    "--prompts",
    prompts,
    "--model",
    OLD_MODEL,
    "--max-tokens",
    "100",
    "--max-cost",
    String(cap),
  ];
  const start = () =>
    spawn(
      process.execPath,
      [BIN, "migrate", "openai", "record", folder, ...words, "--at-a-time", String(AT_A_TIME), "--yes"],
      {
        env: { PATH: process.env["PATH"] ?? "", OPENAI_API_KEY: KEY, OPENAI_BASE_URL: fake.baseUrl },
        stdio: "ignore",
      },
    );
  let kills = 0;
  for (const wanted of [3, 14, 27]) {
    const child = start();
    const ended = once(child, "exit");
    while (fake.asked.length < wanted && child.exitCode === null) await delay(3);
    child.kill("SIGKILL");
    await ended;
    kills += 1;
    // What was on its way arrives at OpenAI all the same.
    await delay(150);
    const found = await readRecording(recordingPath(folder, OLD_MODEL));
    expect(found?.spentUsd ?? 0).toBeGreaterThanOrEqual(model.chargedUsd - 1e-12);
    expect(found?.spentUsd ?? 0).toBeLessThanOrEqual(cap);
  }
  const [code] = (await once(start(), "exit")) as [number];
  expect(code).toBe(0);
  const found = await readRecording(recordingPath(folder, OLD_MODEL));
  expect(found?.answers.size).toBe(PROMPTS);
  expect(found?.tornBytes).toBe(0);
  const twice = [...model.seen.values()].reduce((sum, count) => sum + count - 1, 0);
  expect(twice).toBeLessThanOrEqual(kills * AT_A_TIME);
  expect(twice).toBeGreaterThan(0);
  expect(model.chargedUsd).toBeLessThanOrEqual(cap);
}, 120_000);
