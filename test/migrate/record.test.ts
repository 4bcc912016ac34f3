// `tunesmith migrate openai record`: what is sent and kept, what it costs, and that the cap holds whatever happens.
import { appendFileSync, mkdirSync, readdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { recordingPath } from "../../src/migrate/recording.ts";
import type { RecordSummary } from "../../src/migrate/record.ts";
import { tunesmith } from "../cli/fake-server.ts";
import { KEY, sendError, sendJson, tooFast, type Fault } from "./fake-openai.ts";
import { oldModel, promptsFile, questions, type OldModelOptions } from "./old-model.ts";
import { OLD_MODEL, openAi, temporaryFolder } from "./world.ts";

async function setUp(lines: readonly (object | string)[], options: OldModelOptions = {}) {
  const model = oldModel(OLD_MODEL, options);
  const fake = await openAi({ chat: model.chat });
  const folder = temporaryFolder();
  const prompts = promptsFile(folder, lines);
  const words = ["migrate", "openai", "record", folder, "--prompts", prompts, "--model", OLD_MODEL];
  const run = (...more: string[]) => tunesmith([...words, ...more]);
  const recorded = async (...more: string[]): Promise<RecordSummary & { code: number | null }> => {
    const { code, out, err } = await run("--yes", "--json", ...more);
    if (out === "") throw new Error(err);
    return { ...(JSON.parse(out) as RecordSummary), code };
  };
  const path = recordingPath(folder, OLD_MODEL);
  const lineList = () =>
    readFileSync(path, "utf8")
      .split("\n")
      .slice(0, -1)
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  return { model, fake, folder, prompts, run, recorded, path, lineList };
}

const broken: Fault = (response) => void response.destroy();

describe("what is sent and kept", () => {
  test("every prompt is asked once, and its answer kept with the request and the cost", async () => {
    const { recorded, model, fake, lineList } = await setUp([
      { prompt: "Hello" },
      {
        messages: [
          { role: "system", content: "Be brief." },
          { role: "user", content: "Hi" },
        ],
        max_tokens: 5,
        seed: 1,
      },
      {
        messages: [
          { role: "user", content: "Row" },
          { role: "assistant", content: "Known", weight: 1 },
        ],
        temperature: 1,
      },
    ]);
    const summary = await recorded();
    expect(summary).toMatchObject({ code: 0, prompts: 3, recorded: 3, failed: [], cap_reached: false });
    expect(summary.spent_usd).toBeCloseTo(model.chargedUsd, 12);
    const bodies = fake.asked.map(({ body }) => JSON.parse(body) as object);
    expect(bodies).toEqual(
      expect.arrayContaining([
        {
          model: OLD_MODEL,
          messages: [{ role: "user", content: "Hello" }],
          temperature: 0,
          max_completion_tokens: 1024,
        },
        expect.objectContaining({ max_completion_tokens: 5, seed: 1 }),
        {
          model: OLD_MODEL,
          messages: [{ role: "user", content: "Row" }],
          temperature: 1,
          max_completion_tokens: 1024,
        },
      ]),
    );
    const answers = lineList().filter(({ type }) => type === "answer");
    expect(answers.find(({ line }) => line === 3)).toMatchObject({
      reference: "Known",
      message: { content: "Answer to Row" },
      usage: { prompt_tokens: 20 },
    });
  });

  test("a second run asks nothing again, equal prompts are asked once", async () => {
    const { recorded, fake } = await setUp([{ prompt: "A" }, { prompt: "A" }, { prompt: "B" }]);
    expect(await recorded()).toMatchObject({ code: 0, prompts: 2, recorded: 2 });
    expect(await recorded()).toMatchObject({ code: 0, prompts: 2, recorded: 2 });
    expect(fake.asked).toHaveLength(2);
  });

  test("a prompt that OpenAI refuses is named, costs nothing, and is asked again by the next run", async () => {
    const refuse = sendError(400, "too long", "context_length_exceeded");
    const { recorded, model } = await setUp(questions(3), {
      fault: (prompt, nth) => (prompt === "Question 1" && nth === 1 ? refuse : null),
    });
    const first = await recorded();
    expect(first).toMatchObject({
      code: 1,
      recorded: 2,
      failed: [{ line: 2, message: "too long" }],
      failed_count: 1,
    });
    expect(first.spent_usd).toBeCloseTo(model.chargedUsd, 12);
    expect(await recorded()).toMatchObject({ code: 0, recorded: 3 });
    expect(model.seen.get("Question 0")).toBe(1);
  });

  test("a 429 is waited for and asked again", async () => {
    const { recorded, model } = await setUp(questions(2), {
      fault: (_prompt, nth) => (nth === 1 ? tooFast(1) : null),
    });
    const summary = await recorded();
    expect(summary).toMatchObject({ code: 0, recorded: 2 });
    expect(summary.spent_usd).toBeCloseTo(model.chargedUsd, 12);
  });

  test("a model that is gone ends it at once, and what was recorded stays", async () => {
    const { run, fake, recorded } = await setUp(questions(20));
    await recorded("--max-cost", "0.0013", "--max-tokens", "1024");
    fake.state.chat = () => sendError(404, "The model does not exist", "model_not_found");
    const before = fake.asked.length;
    const { code, err } = await run("--yes");
    expect(code).toBe(1);
    expect(err).toContain("does not answer any more");
    expect(fake.asked.length - before).toBeLessThanOrEqual(4);
  });

  test("an ended account ends it at once", async () => {
    const quota = sendJson(429, {
      error: { message: "Out of credit", type: "insufficient_quota", code: "insufficient_quota" },
    });
    const { run, fake } = await setUp(questions(20), { fault: () => quota });
    const { code, err } = await run("--yes");
    expect(code).toBe(1);
    expect(err).toContain("Out of credit");
    expect(fake.asked.length).toBeLessThanOrEqual(4);
  });
});

describe("what it costs", () => {
  test("is said before; without a terminal nothing is sent unless --yes says so", async () => {
    const { run, fake, folder } = await setUp(questions(3));
    const { code, err } = await run("--max-cost", "2");
    expect(code).toBe(2);
    expect(err).toMatch(/to send +3\n/);
    expect(err).toContain(
      "$0.3 for a million tokens read, $1.2 written (OpenAI's last full public price table, captured 2025 to 2026)",
    );
    expect(err).toMatch(/at worst +\$0\.00\d\d/);
    expect(err).toMatch(/cap +\$2\.0000, never exceeded/);
    expect(err).toContain("Give --yes");
    expect(fake.asked).toEqual([]);
    expect(readdirSync(folder)).toEqual(["prompts.jsonl"]);
  });

  test("a person is asked", async () => {
    const { prompts, folder, fake } = await setUp(questions(2));
    const words = ["migrate", "openai", "record", folder, "--prompts", prompts, "--model", OLD_MODEL];
    const no = await tunesmith(words, { isTTY: true, input: "n\n" });
    expect(no.code).toBe(1);
    expect(fake.asked).toEqual([]);
    const yes = await tunesmith(words, { isTTY: true, input: "y\n" });
    expect(yes.code).toBe(0);
    expect(fake.asked).toHaveLength(2);
  });

  test("of an unknown model is the user's to say", async () => {
    const { fake, folder, prompts } = await setUp(questions(1));
    const words = [
      "migrate",
      "openai",
      "record",
      folder,
      "--prompts",
      prompts,
      "--model",
      "ft:gpt-9:acme::what1234",
    ];
    const { code, err } = await tunesmith([...words, "--yes"]);
    expect(code).toBe(2);
    expect(err).toContain("--price-input and --price-output");
    fake.state.chat = oldModel("ft:gpt-9:acme::what1234").chat;
    const priced = await tunesmith([
      ...words,
      "--yes",
      "--json",
      "--price-input",
      "1000",
      "--price-output",
      "10000",
    ]);
    expect(priced.code).toBe(0);
    expect((JSON.parse(priced.out) as RecordSummary).spent_usd).toBeCloseTo(
      (20 * 1000 + 5 * 10_000) / 1e6,
      9,
    );
    expect(priced.err).toContain("(given by you)");
  });
});

describe("the cap", () => {
  /** Ways in which requests end, mixed by the prompt's number. */
  const trouble = (prompt: string, nth: number): Fault | null => {
    const number = Number(/\d+/.exec(prompt)?.[0]);
    if (nth > 1) return null;
    if (number % 5 === 1)
      return sendError(429, "slow down", "rate_limit_exceeded", null, { "retry-after-ms": "5" });
    if (number % 5 === 2) return broken;
    return number % 5 === 3 ? sendError(500, "server error") : null;
  };

  test.each([1, 4, 16])(
    "holds with %i requests at a time, each as dear as it may be, some retried",
    async (atATime) => {
      const { recorded, model } = await setUp(questions(60), { dear: true, slowMs: 3, fault: trouble });
      const cap = 0.004;
      const more = ["--max-tokens", "100", "--at-a-time", String(atATime), "--max-cost", String(cap)];
      const summary = await recorded(...more);
      expect(summary).toMatchObject({ code: 1, cap_reached: true });
      expect(summary.recorded).toBeGreaterThan(3);
      expect(summary.spent_usd).toBeLessThanOrEqual(cap);
      // And OpenAI charges no more, even if it charged all that ended in the dark.
      const dark = [...model.seen.keys()].filter((prompt) =>
        [2, 3].includes(Number(/\d+/.exec(prompt)?.[0]) % 5),
      ).length;
      const dearest =
        (Buffer.byteLength(JSON.stringify([{ role: "user", content: "Question 00" }])) * 0.3 + 100 * 1.2) /
        1e6;
      expect(model.chargedUsd + dark * dearest).toBeLessThanOrEqual(cap);
      expect(model.mostInFlight).toBeLessThanOrEqual(atATime);
      // It is the whole recording's: another run has no more to spend.
      const charged = model.chargedUsd;
      expect(await recorded(...more)).toMatchObject({ code: 1, cap_reached: true });
      expect(model.chargedUsd).toBe(charged);
      // A higher one goes on with what is missing.
      const rest = await recorded(...more.slice(0, -1), "1");
      expect(rest).toMatchObject({ code: 0, recorded: 60, cap_reached: false });
      expect(rest.spent_usd).toBeGreaterThanOrEqual(model.chargedUsd - 1e-12);
    },
  );

  test("that leaves no room for one prompt sends none", async () => {
    const { recorded, fake } = await setUp(questions(2));
    expect(await recorded("--max-cost", "0.0001")).toMatchObject({
      code: 1,
      recorded: 0,
      cap_reached: true,
      spent_usd: 0,
    });
    expect(fake.asked).toEqual([]);
  });

  test("waits for what requests in flight give back", async () => {
    // Room for one worst case at a time, of answers that cost a fraction of it.
    const { recorded, model } = await setUp(questions(8), { slowMs: 5 });
    const summary = await recorded("--max-tokens", "1000", "--max-cost", "0.0014");
    expect(summary).toMatchObject({ code: 0, recorded: 8, cap_reached: false });
    expect(model.mostInFlight).toBe(1);
  });

  test("an answer without its usage counts as the dearest", async () => {
    const { recorded, fake } = await setUp(questions(1));
    fake.state.chat = () =>
      sendJson(200, { choices: [{ message: { content: "x" }, finish_reason: "stop" }], usage: null });
    expect((await recorded("--max-tokens", "100")).spent_usd).toBeGreaterThan(100 * 1.2e-6);
  });

  test("something that is no answer is kept as an error", async () => {
    const { recorded, fake, lineList } = await setUp(questions(1));
    fake.state.chat = () => sendJson(200, { object: "what" });
    expect(await recorded()).toMatchObject({ code: 1, recorded: 0, failed_count: 1 });
    expect(lineList().at(-1)).toMatchObject({ type: "error", status: 200 });
  });
});

describe("recordings that are not what they should be", () => {
  test("half a line at the end is passed over, and cut off before anything is added", async () => {
    const { recorded, path, lineList, model } = await setUp(questions(3));
    await recorded();
    truncateSync(path, readFileSync(path).length - 30);
    const summary = await recorded();
    expect(summary).toMatchObject({ code: 0, recorded: 3 });
    // The lost answer was paid for, and counts with its worst case.
    expect(summary.spent_usd).toBeGreaterThan(model.chargedUsd);
    expect(lineList().every(({ type }) => typeof type === "string")).toBe(true);
  });

  test("a damaged line in the middle is named, and nothing is sent", async () => {
    const { run, path, recorded, fake } = await setUp(questions(2));
    await recorded();
    const lines = readFileSync(path, "utf8").split("\n");
    lines[2] = (lines[2] as string).slice(0, -5);
    writeFileSync(path, lines.join("\n"));
    fake.asked.length = 0;
    const { code, err } = await run("--yes");
    expect(code).toBe(2);
    expect(err).toContain("is damaged at line 3");
    expect(fake.asked).toEqual([]);
  });

  test("another model's recording, and a folder, are refused", async () => {
    const { run, path, folder } = await setUp(questions(1));
    mkdirSync(join(folder, "recordings"));
    appendFileSync(
      path,
      `${JSON.stringify({ type: "recording", version: 1, model: "ft:x", base_url: "", created_at: 1 })}\n`,
    );
    expect((await run("--yes")).err).toContain("is a recording of ft:x");
  });

  test("the key is in no recording", async () => {
    const { recorded, path } = await setUp(questions(2), {
      fault: (prompt) => (prompt === "Question 1" ? sendError(400, `bad ${KEY}`) : null),
    });
    await recorded();
    expect(readFileSync(path, "utf8")).not.toContain(KEY);
  });
});

describe("prompts that cannot be sent are named by their line, before anything is", () => {
  test.each<[string, object | string, RegExp]>([
    ["no JSON", "{", /line 2: it is no JSON/],
    ["neither messages nor a prompt", {}, /line 2: expected "messages" or "prompt"/],
    ["both", { prompt: "a", messages: [{ role: "user", content: "b" }] }, /only one of them/],
    ["an unknown member", { prompt: "a", n: 3 }, /line 2: .*n/],
    [
      "an image",
      { messages: [{ role: "user", content: [{ type: "image_url", image_url: { url: "x" } }] }] },
      /line 2: "messages\.0\.content/,
    ],
    ["a role of its own", { messages: [{ role: "judge", content: "x" }] }, /line 2: "messages\.0\.role"/],
    ["two longest answers", { prompt: "a", max_tokens: 1, max_completion_tokens: 2 }, /the same thing/],
    ["an answer alone", { messages: [{ role: "assistant", content: "x" }] }, /Line 2 has an answer/],
  ])("%s", async (_name, line, message) => {
    const { run, fake } = await setUp([{ prompt: "good" }, line]);
    const { code, err } = await run("--yes");
    expect(code).toBe(2);
    expect(err).toMatch(message);
    expect(fake.asked).toEqual([]);
  });

  test("a file that is empty or missing", async () => {
    const { run, prompts } = await setUp([]);
    expect((await run("--yes")).err).toContain("has no prompts");
    writeFileSync(prompts, "\n\n");
    expect((await run("--yes")).err).toContain("has no prompts");
  });
});
