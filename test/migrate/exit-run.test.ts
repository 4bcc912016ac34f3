// The whole way out, from plan to compare: OpenAI is the fake, tunesmith is a real server with the tiny model in processes of their own, and
// every step is a command as a user gives it, driven through the network alone.
import { cp } from "node:fs/promises";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import type { Comparison } from "../../src/migrate/compare.ts";
import type { TrainedHere } from "../../src/migrate/train-here.ts";
import { modelDirectory } from "../../src/model/resolve-base-model.ts";
import { tunesmithProcess } from "../cli/fake-server.ts";
import { cleanUp, JOB_TIMEOUT_MS, TINY, tinyHome } from "../e2e/harness.ts";
import { spawnServer } from "../e2e/server-process.ts";
import { KEY } from "./fake-openai.ts";
import { oldModel, promptsFile } from "./old-model.ts";
import { customer, OLD_MODEL, openAi, rows, temporaryFolder } from "./world.ts";

afterAll(cleanUp);

test(
  "plan, pull, retrain, record, distil, compare",
  async () => {
    const home = await tinyHome();
    await cp(join(import.meta.dirname, "../goldens/tiny-bert"), modelDirectory(home, "all-minilm-l6-v2"), {
      recursive: true,
    });
    const server = await spawnServer(home, { TUNESMITH_HUB_URL: "http://127.0.0.1:9" });
    const answers: Record<string, string> = { 0: "billing", 1: "refund", 2: "account", 3: "delivery" };
    const model = oldModel(OLD_MODEL, {
      answer: (prompt) => answers[Number(/Ticket (\d+)/.exec(prompt)?.[1] ?? 0) % 4] as string,
    });
    const fake = await openAi({ ...customer(), chat: model.chat });
    const folder = join(temporaryFolder(), "moved");
    const env: Record<string, string> = {
      OPENAI_API_KEY: KEY,
      OPENAI_BASE_URL: fake.baseUrl,
      TUNESMITH_BASE_URL: `${server.url}/v1`,
    };
    const migrate = async (...words: string[]) => {
      const result = await tunesmithProcess(["--json", "migrate", "openai", ...words], { env });
      return { ...result, answer: JSON.parse(result.out) as Record<string, unknown> };
    };

    const plan = await migrate("plan");
    expect(plan.code).toBe(0);
    expect((plan.answer["jobs"] as unknown[]).length).toBe(6);

    // Exit code 1: one file has expired and one is gone, which the plan has said.
    expect((await migrate("pull", "--out", folder)).code).toBe(1);

    const retrained = await migrate(
      "retrain",
      folder,
      "--base",
      TINY,
      "--job",
      "ftjob-sft",
      "--job",
      "ftjob-dpo",
    );
    const jobs = retrained.answer["jobs"] as TrainedHere[];
    expect(jobs.map(({ origin, state }) => [origin, state])).toEqual([
      ["ftjob-sft", "succeeded"],
      ["ftjob-dpo", "succeeded"],
    ]);
    const [supervised, preference] = jobs as [TrainedHere, TrainedHere];
    expect(supervised.new_model).toMatch(/^ft:tiny:personal:tickets:/);
    expect(preference.preflight).toMatchObject({ trainable: true });
    const job = await server.client.fineTuning.jobs.retrieve(supervised.job ?? "");
    expect(job).toMatchObject({
      seed: 7,
      hyperparameters: { n_epochs: 2, batch_size: 2, learning_rate_multiplier: 1.8 },
      metadata: { team: "support", openai_origin: "ftjob-sft" },
    });
    expect(supervised.alias.state).toBe("set");
    const answer = await server.client.chat.completions.create({
      model: OLD_MODEL,
      messages: [{ role: "user", content: "Ticket" }],
      max_tokens: 2,
    });
    expect(answer.model).toBe(supervised.new_model);
    const again = await migrate("retrain", folder, "--base", TINY, "--job", "ftjob-sft");
    expect((again.answer["jobs"] as TrainedHere[])[0]?.job).toBe(supervised.job);

    const prompts = promptsFile(folder, rows(16).trim().split("\n"));
    const recorded = await migrate(
      ...["record", folder, "--prompts", prompts, "--model", OLD_MODEL],
      ...["--max-tokens", "8", "--max-cost", "0.01", "--yes"],
    );
    expect(recorded.answer).toMatchObject({ recorded: 16, prompts: 16, cap_reached: false });
    expect(model.chargedUsd).toBeLessThanOrEqual(0.01);

    // The old model is gone, and all of OpenAI with it.
    await fake.close();
    const distilled = await migrate("distil", folder, "--base", TINY, "--epochs", "2", "--no-alias");
    expect(distilled.answer).toMatchObject({ rows: 16, training: { state: "succeeded" } });

    const grader = join(folder, "grader.json");
    const check = {
      type: "string_check",
      name: "as before",
      input: "{{sample.output_text}}",
      reference: "{{item.reference}}",
      operation: "eq",
    };
    writeFileSync(grader, JSON.stringify(check));
    const compared = await migrate(
      "compare",
      folder,
      "--new",
      supervised.new_model ?? "",
      "--grader",
      grader,
    );
    expect(compared.code).toBe(0);
    const comparison = compared.answer as unknown as Comparison;
    expect(comparison).toMatchObject({ prompts: 16, answered: 16, unmeasured: [], old_model: OLD_MODEL });
    expect(comparison.similarity?.count).toBeGreaterThan(0);
    // What the old model said is what the rows say, so the grader finds it perfect.
    expect(comparison.graders[0]).toMatchObject({
      name: "as before",
      old: { mean: 1, low: 1, high: 1 },
      errors: 0,
    });
    expect(comparison.graders[0]?.new?.mean).toBeCloseTo(comparison.exact_match?.mean ?? NaN, 12);
    expect(existsSync(join(folder, "compare.html"))).toBe(true);
    for (const name of ["manifest.json", "compare.json", "compare.html"])
      expect(readFileSync(join(folder, name), "utf8")).not.toContain(KEY);
    for (const { out, err } of [plan, retrained, recorded, distilled, compared])
      expect(out + err).not.toContain(KEY);
  },
  JOB_TIMEOUT_MS,
);
