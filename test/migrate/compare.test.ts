// `tunesmith migrate openai compare`: figures that can be counted by hand, a page that nothing gets out of, and recordings and servers that
// lack something.
import { readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import type { Comparison } from "../../src/migrate/compare.ts";
import { recordingPath } from "../../src/migrate/recording.ts";
import { sendError, startFakeServer, tunesmith, type Answer } from "../cli/fake-server.ts";
import { oldModel, promptsFile } from "./old-model.ts";
import { OLD_MODEL, openAi, temporaryFolder } from "./world.ts";

const NEW_MODEL = "ft:tiny:personal::here0000";

/** Prompt, old answer, new answer; null: the server refuses. */
type Case = [prompt: string, old: string, now: string | null];

const CASES: Case[] = [
  ["same", "Hello there", "Hello there\n"],
  ["json kept", '{"a": 1}', '{"a": 2}'],
  ["json lost", '{"a": 1}', "a is 1"],
  ["other words", "yes of course", "no"],
  ["refused", "long answer", null],
];

async function recordedFolder(cases: readonly Case[] = CASES): Promise<string> {
  const model = oldModel(OLD_MODEL, {
    answer: (prompt) => cases.find(([asked]) => asked === prompt)?.[1] ?? "",
  });
  const fake = await openAi({ chat: model.chat });
  const folder = temporaryFolder();
  const prompts = promptsFile(
    folder,
    cases.map(([prompt]) => ({ prompt })),
  );
  const words = ["migrate", "openai", "record", folder, "--prompts", prompts, "--model", OLD_MODEL, "--yes"];
  expect((await tunesmith(words)).code).toBe(0);
  // From here on there is no OpenAI.
  await fake.close();
  return folder;
}

const send = (body: object): Answer => body as Record<string, unknown>;

/** As long as the text in one direction, and 1 in another: what is equal has the cosine 1. */
const vector = (text: string): number[] => [text.length, 1];

async function server(cases: readonly Case[] = CASES, routes: Record<string, Answer> = {}) {
  const fake = await startFakeServer({
    "POST /v1/chat/completions": (response, asked) => {
      const { messages, model } = JSON.parse(asked.body) as {
        model: string;
        messages: { content: string }[];
      };
      if (model !== NEW_MODEL)
        return sendError(404, `The model '${model}' does not exist`, "model_not_found")(response);
      const found = cases.find(([prompt]) => prompt === messages.at(-1)?.content);
      if (found?.[2] === null)
        return sendError(400, "too long for this model", "context_length_exceeded")(response);
      response.end(JSON.stringify({ choices: [{ message: { role: "assistant", content: found?.[2] } }] }));
    },
    "POST /v1/embeddings": (response, { body }) => {
      const { input } = JSON.parse(body) as { input: string[] };
      response.end(
        JSON.stringify({ data: input.map((text, index) => ({ index, embedding: vector(text) })) }),
      );
    },
    ...routes,
  });
  onTestFinished(async () => void (await fake.close()));
  return fake;
}

async function compared(folder: string, baseUrl: string, ...more: string[]) {
  const words = ["migrate", "openai", "compare", folder, "--new", NEW_MODEL, "--base-url", baseUrl, ...more];
  const { code, out, err } = await tunesmith([...words, "--json"]);
  return { code, err, out, comparison: JSON.parse(out) as Comparison & { error?: { message: string } } };
}

test("the figures, on five prompts that can be counted by hand", async () => {
  const folder = await recordedFolder();
  const here = await server();
  const { code, comparison } = await compared(folder, here.baseUrl);
  expect(code).toBe(0);
  expect(comparison).toMatchObject({
    old_model: OLD_MODEL,
    new_model: NEW_MODEL,
    prompts: 5,
    answered: 4,
    unmeasured: [],
  });
  expect(comparison.exact_match).toMatchObject({ count: 5, mean: 0.2 });
  expect(comparison.format_valid).toMatchObject({ count: 2, mean: 0.5 });
  expect(comparison.length_ratio?.count).toBe(4);
  expect(comparison.length_ratio?.mean).toBeCloseTo((12 / 11 + 1 + 6 / 8 + 2 / 13) / 4, 12);
  expect(comparison.similarity?.count).toBe(4);
  const { low = 1, high = 0 } = comparison.exact_match ?? {};
  expect(low).toBeLessThan(0.2);
  expect(high).toBeGreaterThan(0.2);
  // No answer first, then the lost format; what is the same is no difference.
  expect(comparison.worst.map(({ prompt }) => prompt).slice(0, 2)).toEqual(["refused", "json lost"]);
  expect(comparison.worst[0]).toMatchObject({ new: null, fault: "too long for this model", distance: 2 });
  expect(comparison.worst.map(({ prompt }) => prompt)).not.toContain("same");
  expect(JSON.parse(readFileSync(join(folder, "compare.json"), "utf8"))).toEqual(comparison);
  // What was asked is what was recorded.
  const asked = here.asked.find(({ path }) => path === "/v1/chat/completions");
  expect(JSON.parse(asked?.body ?? "")).toMatchObject({ temperature: 0, max_completion_tokens: 1024 });
});

test("the same seed gives the same file, and the text says the same", async () => {
  const folder = await recordedFolder();
  const here = await server();
  await compared(folder, here.baseUrl, "--seed", "5");
  const first = readFileSync(join(folder, "compare.json"), "utf8");
  await compared(folder, here.baseUrl, "--seed", "5");
  expect(readFileSync(join(folder, "compare.json"), "utf8")).toBe(first);
  const words = ["migrate", "openai", "compare", folder, "--new", NEW_MODEL, "--base-url", here.baseUrl];
  const { out } = await tunesmith(words);
  expect(out).toMatch(/exact match +20\.0% +0\.0% to \d+\.0% +5/);
  expect(out).toContain("1 prompt has no new answer, which counts as no match.");
});

test("a page that nothing in prompts and answers gets out of", async () => {
  const evil = `</pre><script>alert(1)</script><img src=x onerror='a("b")'>&amp;`;
  const cases: Case[] = [[evil, `${evil} old`, `${evil} new`]];
  const folder = await recordedFolder(cases);
  await compared(folder, (await server(cases)).baseUrl);
  const page = readFileSync(join(folder, "compare.html"), "utf8");
  expect(page).not.toMatch(/<script|<img|onerror='/);
  expect(page.match(/&lt;script&gt;alert\(1\)&lt;\/script&gt;/g)).toHaveLength(3);
  expect(page).toContain("&amp;amp;");
  expect(page).toContain("default-src 'none'");
  expect(page).not.toMatch(/<[^>]*(?:src|href)=/);
});

test("twenty differences at most are shown, the worst first; all rows have their figures", async () => {
  const cases = Array.from({ length: 30 }, (_, i): Case => [`p${i}`, "a".repeat(40), "a".repeat(i + 1)]);
  const folder = await recordedFolder(cases);
  const { comparison } = await compared(folder, (await server(cases)).baseUrl);
  expect(comparison.rows).toHaveLength(30);
  expect(comparison.worst).toHaveLength(20);
  expect(comparison.worst[0]?.prompt).toBe("p0");
  const distances = comparison.worst.map(({ distance }) => distance);
  expect(distances).toEqual([...distances].sort((a, b) => b - a));
});

describe("graders", () => {
  const grader = {
    type: "string_check",
    name: "polite",
    input: "{{sample.output_text}}",
    reference: "x",
    operation: "eq",
  };

  async function graded(routes: Record<string, Answer>) {
    const folder = await recordedFolder();
    const path = join(folder, "grader.json");
    writeFileSync(path, JSON.stringify(grader));
    const here = await server(CASES, routes);
    return { here, path, folder, ...(await compared(folder, here.baseUrl, "--grader", path)) };
  }

  test("run on both answers, and the difference is taken prompt by prompt", async () => {
    const { comparison, here } = await graded({
      "POST /v1/fine_tuning/alpha/graders/validate": send({ grader }),
      "POST /v1/fine_tuning/alpha/graders/run": (response, { body }) => {
        const { model_sample: sample } = JSON.parse(body) as { model_sample: string };
        const reward = sample === "yes of course" ? 1 : 0.5;
        response.end(JSON.stringify({ reward, metadata: { errors: { other_error: sample === "no" } } }));
      },
    });
    const [found] = comparison.graders;
    expect(found).toMatchObject({ name: "polite", errors: 1 });
    expect(found?.old?.mean).toBeCloseTo((4 * 0.5 + 1) / 5, 12);
    // The prompt without an answer scores 0.
    expect(found?.new?.mean).toBeCloseTo((4 * 0.5) / 5, 12);
    expect(found?.difference?.mean).toBeCloseTo(-0.2, 12);
    const ran = here.asked.find(({ path }) => path.endsWith("graders/run"));
    expect(JSON.parse(ran?.body ?? "")).toMatchObject({
      grader,
      item: {
        prompt: "same",
        old_answer: "Hello there",
        reference: null,
        messages: [{ role: "user", content: "same" }],
      },
    });
  });

  test("one that the server does not know is refused before a prompt is sent", async () => {
    const { code, comparison, here } = await graded({
      "POST /v1/fine_tuning/alpha/graders/validate": sendError(400, "Missing 'operation'."),
    });
    expect(code).toBe(2);
    expect(comparison.error?.message).toMatch(
      /grader\.json is no grader that the server knows: Missing 'operation'\./,
    );
    expect(here.asked.some(({ path }) => path === "/v1/chat/completions")).toBe(false);
  });

  test("a file that is no JSON", async () => {
    const folder = await recordedFolder();
    const path = join(folder, "grader.json");
    writeFileSync(path, "{");
    const { code, comparison } = await compared(folder, (await server()).baseUrl, "--grader", path);
    expect([code, comparison.error?.message]).toEqual([
      2,
      expect.stringContaining("is no grader: expected a JSON file"),
    ]);
  });
});

describe("what is missing", () => {
  test("a server without embeddings: said, and words stand in for them in the order", async () => {
    const folder = await recordedFolder();
    const here = await server(CASES, {
      "POST /v1/embeddings": sendError(404, "The model does not exist", "model_not_found"),
    });
    const { code, comparison } = await compared(folder, here.baseUrl);
    expect(code).toBe(0);
    expect(comparison.unmeasured).toEqual([{ what: "similarity", why: "The model does not exist" }]);
    expect(comparison.similarity).toBeNull();
    expect(comparison.worst.find(({ prompt }) => prompt === "other words")?.distance).toBe(1);
    expect(readFileSync(join(folder, "compare.html"), "utf8")).toContain("similarity was not measured");
  });

  test("a new model that is not there ends it at once", async () => {
    const folder = await recordedFolder();
    const here = await server();
    const words = ["migrate", "openai", "compare", folder, "--new", "ft:no", "--base-url", here.baseUrl];
    const { code, err } = await tunesmith(words);
    expect([code, err]).toEqual([1, expect.stringContaining("'ft:no' does not exist")]);
    expect(here.asked.length).toBeLessThanOrEqual(4);
  });

  test("a busy server is asked again", async () => {
    const folder = await recordedFolder(CASES.slice(0, 1));
    const here = await server(CASES, {});
    const busy = await startFakeServer({
      "POST /v1/chat/completions": [
        sendError(503, "busy"),
        send({ choices: [{ message: { content: "Hello there" } }] }),
      ],
      "POST /v1/embeddings": sendError(404, "none"),
    });
    onTestFinished(async () => void (await busy.close()));
    const { comparison } = await compared(folder, busy.baseUrl);
    expect(comparison.exact_match?.mean).toBe(1);
    expect(here.asked).toEqual([]);
  });

  test("no recording, several, one of another model, and half a last line", async () => {
    const here = await server();
    const none = await compared(temporaryFolder(), here.baseUrl);
    expect([none.code, none.comparison.error?.message]).toEqual([
      2,
      expect.stringContaining("has no recordings"),
    ]);
    const folder = await recordedFolder();
    const path = recordingPath(folder, OLD_MODEL);
    const unknown = await compared(folder, here.baseUrl, "--old", "ft:never");
    expect(unknown.comparison.error?.message).toContain('There is no recording "ft:never"');
    writeFileSync(recordingPath(folder, "ft:other"), readFileSync(path));
    const several = await compared(folder, here.baseUrl);
    expect(several.comparison.error?.message).toContain("has several recordings");
    truncateSync(path, readFileSync(path).length - 20);
    for (const old of [path, OLD_MODEL]) {
      const cut = await compared(folder, here.baseUrl, "--old", old);
      expect([cut.code, cut.comparison.prompts]).toEqual([0, 4]);
    }
  });
});
