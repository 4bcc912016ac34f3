// `tunesmith migrate openai retrain` and `distil` against a server that says what it was asked: what carries over, what is refused by name,
// and that a second run trains nothing twice.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import type { TrainedHere } from "../../src/migrate/train-here.ts";
import { sendError, startFakeServer, tunesmith, type Answer, type Asked } from "../cli/fake-server.ts";
import { oldModel, promptsFile, questions } from "./old-model.ts";
import { customer, job, OLD_MODEL, openAi, temporaryFolder } from "./world.ts";

const REPORT = {
  object: "tunesmith.preflight",
  trainable: true,
  fault_count: 0,
  faults: [],
  findings: [],
  files: [],
};
const ALIAS = `/tunesmith/aliases/${OLD_MODEL}`;

interface JobBody {
  model: string;
  training_file: string;
  metadata: Record<string, string>;
  [member: string]: unknown;
}

/** A tunesmith server whose jobs succeed at once. */
async function server(routes: Record<string, Answer> = {}) {
  const jobs: (JobBody & { id: string; status: string; fine_tuned_model: string | null; error: null })[] = [];
  const answered = new Map<string, object>();
  const uploads = new Map<string, string>();
  const send =
    (status: number, body: object) => (response: Parameters<Exclude<Answer, Record<string, unknown>>>[0]) => {
      response.writeHead(status, { "content-type": "application/json" });
      response.end(JSON.stringify(body));
    };
  const once = (asked: Asked, make: () => object): object => {
    const key = String(asked.headers["idempotency-key"]);
    const found = answered.get(key) ?? make();
    answered.set(key, found);
    return found;
  };
  const fixed: Record<string, Answer> = {
    "GET /v1/fine_tuning/jobs": (response, { path }) => {
      const recipe = new URL(path, "http://x").searchParams.get("metadata[openai_recipe_sha256]");
      const data = jobs.filter(({ metadata }) => metadata["openai_recipe_sha256"] === recipe);
      send(200, { object: "list", data, has_more: false })(response);
    },
    "POST /v1/files": (response, asked) => {
      const file = once(asked, () => {
        const id = `file-here${uploads.size}`;
        uploads.set(id, asked.body);
        fixed[`GET /v1/files/${id}`] = { id };
        return { id, object: "file" };
      });
      send(200, file)(response);
    },
    "POST /tunesmith/preflight": REPORT,
    "POST /v1/fine_tuning/jobs": (response, asked) => {
      const made = once(asked, () => {
        const body = JSON.parse(asked.body) as JobBody;
        const id = `ftjob-here${jobs.length}`;
        const one = {
          ...body,
          id,
          status: "succeeded",
          fine_tuned_model: `ft:tiny:personal::here000${jobs.length}`,
          error: null,
          trained_tokens: 10,
        };
        jobs.push(one);
        fixed[`GET /v1/fine_tuning/jobs/${id}`] = one;
        fixed[`GET /v1/fine_tuning/jobs/${id}/events`] = { object: "list", data: [], has_more: false };
        fixed[`GET /v1/models/${one.fine_tuned_model}`] = { id: one.fine_tuned_model };
        return one;
      });
      send(200, made)(response);
    },
    ...routes,
  };
  const fake = await startFakeServer(fixed);
  onTestFinished(async () => void (await fake.close()));
  return { ...fake, jobs, uploads, routes: fixed };
}

async function pulledFolder(world = customer()): Promise<string> {
  await openAi(world);
  const folder = temporaryFolder();
  await tunesmith(["migrate", "openai", "pull", "--out", folder, "--json"]);
  return folder;
}

/** The command as a user types it. */
const words = (folder: string, baseUrl: string, ...more: string[]) => [
  ...["migrate", "openai", "retrain", folder, "--base", "tiny", "--base-url", baseUrl],
  ...more,
];

async function retrain(folder: string, baseUrl: string, ...more: string[]) {
  const { code, out, err } = await tunesmith(words(folder, baseUrl, "--json", ...more));
  const parsed = JSON.parse(out) as { jobs: TrainedHere[]; error?: { message: string } };
  if (parsed.error !== undefined) throw new Error(parsed.error.message);
  return {
    code,
    err,
    ...parsed,
    of: (id: string) => parsed.jobs.find(({ origin }) => origin === id) as TrainedHere,
  };
}

describe("what carries over", () => {
  test("data, hyperparameters, seed, suffix and metadata of a supervised job, and its old name", async () => {
    const folder = await pulledFolder();
    const here = await server({ [`POST ${ALIAS}`]: { object: "tunesmith.alias" } });
    const { code, of } = await retrain(folder, here.baseUrl, "--job", "ftjob-sft");
    expect(code).toBe(0);
    expect(of("ftjob-sft")).toMatchObject({
      state: "succeeded",
      old_model: OLD_MODEL,
      new_model: "ft:tiny:personal::here0000",
      alias: { state: "set" },
      not_carried: ["integrations: metrics stay in the job's events and its result file."],
    });
    expect(here.jobs[0]).toMatchObject({
      model: "tiny",
      seed: 7,
      suffix: "tickets",
      method: {
        type: "supervised",
        supervised: { hyperparameters: { n_epochs: 2, batch_size: 2, learning_rate_multiplier: 1.8 } },
      },
      metadata: { team: "support", openai_origin: "ftjob-sft" },
    });
    expect(here.uploads.get(here.jobs[0]?.training_file ?? "")).toContain("Ticket 11: my delivery.");
    expect(here.uploads.get(String(here.jobs[0]?.["validation_file"]))).toContain("Ticket 100");
    const alias = here.asked.find(({ path }) => path === ALIAS);
    expect(JSON.parse(alias?.body ?? "")).toEqual({
      model: "ft:tiny:personal::here0000",
      reason: "trained again from ftjob-sft",
    });
  });

  test("beta of a preference job", async () => {
    const folder = await pulledFolder();
    const here = await server();
    await retrain(folder, here.baseUrl, "--job", "ftjob-dpo");
    expect(here.jobs[0]?.["method"]).toEqual({
      type: "dpo",
      dpo: { hyperparameters: { n_epochs: 1, batch_size: 4, learning_rate_multiplier: 1, beta: 0.2 } },
    });
  });

  test("a job on another's model goes on from the one trained here; a checkpoint's or a stranger's is refused", async () => {
    const world = customer();
    const after = (id: string, model: string) =>
      job(id, {
        model,
        created_at: 1_760_000_000,
        fine_tuned_model: `ft:gpt-4o-mini-2024-07-18:acme::${id.slice(-8)}`,
      });
    world.jobs.unshift(
      after("ftjob-onnnnnnn", OLD_MODEL),
      after("ftjob-ckptckpt", `${OLD_MODEL}:ckpt-step-4`),
      after("ftjob-strangee", "ft:gpt-4o-mini-2024-07-18:other::zzzz1234"),
    );
    const folder = await pulledFolder(world);
    const here = await server();
    const { of, jobs } = await retrain(
      folder,
      here.baseUrl,
      "--job",
      "ftjob-onnnnnnn",
      "--job",
      "ftjob-ckptckpt",
      "--job",
      "ftjob-strangee",
    );
    expect(of("ftjob-onnnnnnn")).toMatchObject({ state: "succeeded" });
    expect(here.jobs.map(({ model }) => model)).toEqual(["tiny", "ft:tiny:personal::here0000"]);
    expect(jobs.map(({ origin }) => origin)).toContain("ftjob-sft");
    expect(of("ftjob-ckptckpt")).toMatchObject({
      state: "refused",
      reason: expect.stringContaining("only final models") as string,
    });
    expect(of("ftjob-strangee").reason).toContain("whose job is not in");
  });
});

describe("what is refused", () => {
  test("reinforcement and what OpenAI itself did not finish: skipped, and refused where it is named", async () => {
    const world = customer();
    const folder = await pulledFolder(world);
    const here = await server();
    const all = await retrain(folder, here.baseUrl);
    expect(all.of("ftjob-rft")).toMatchObject({ state: "skipped" });
    expect(all.of("ftjob-rft").reason).toContain("reinforcement");
    expect(all.of("ftjob-failed").reason).toContain("invalid_n_examples");
    expect(all.of("ftjob-gone")).toMatchObject({ state: "refused" });
    expect(all.of("ftjob-gone").reason).toContain("No such File object: file-deleted");
    expect(all.code).toBe(1);
    expect(here.jobs).toHaveLength(2);
    const named = await retrain(folder, here.baseUrl, "--job", "ftjob-rft");
    expect([named.code, named.of("ftjob-rft").state]).toEqual([1, "refused"]);
  });

  test("data that would fail: its faults are shown, it is not created, and the others are", async () => {
    const folder = await pulledFolder();
    const fault = {
      param: "training_file",
      line: 3,
      message_index: null,
      message: "no messages",
      found: null,
      expected: null,
      fix: "Add them.",
    };
    const bad = { ...REPORT, trainable: false, fault_count: 5, faults: [fault] };
    const here = await server({
      "POST /tunesmith/preflight": (response, { body }) => {
        response.end(JSON.stringify(body.includes('"dpo"') ? bad : REPORT));
      },
    });
    const { code, of } = await retrain(folder, here.baseUrl, "--job", "ftjob-dpo", "--job", "ftjob-sft");
    expect(code).toBe(1);
    expect(of("ftjob-dpo")).toMatchObject({ state: "refused", preflight: { fault_count: 5 } });
    expect(of("ftjob-dpo").reason).toBe("Its data would fail here: line 3: no messages and 4 more.");
    expect(of("ftjob-sft").state).toBe("succeeded");
    // Every judgement comes before the first job.
    const posts = here.asked.filter(({ method }) => method === "POST").map(({ path }) => path);
    expect(posts.lastIndexOf("/tunesmith/preflight")).toBeLessThan(posts.indexOf("/v1/fine_tuning/jobs"));
    const given = words(folder, here.baseUrl, "--job", "ftjob-dpo");
    expect((await tunesmith(given)).err).toContain("line 3: no messages Add them.");
  });

  test("an unknown base is what the server says of it", async () => {
    const folder = await pulledFolder();
    const here = await server({
      "POST /tunesmith/preflight": sendError(400, "Model tiny is not available", "model_not_available"),
    });
    const { code, of } = await retrain(folder, here.baseUrl, "--job", "ftjob-sft");
    expect([code, of("ftjob-sft").reason]).toEqual([1, "Model tiny is not available"]);
    expect(here.jobs).toEqual([]);
  });

  test("a folder that is no pull, and a job that is not in it", async () => {
    const here = await server();
    const none = await tunesmith([
      "migrate",
      "openai",
      "retrain",
      temporaryFolder(),
      "--base",
      "x",
      "--base-url",
      here.baseUrl,
    ]);
    expect([none.code, none.err]).toEqual([
      2,
      expect.stringContaining("is not the folder of a pull: it has no manifest.json"),
    ]);
    const folder = await pulledFolder();
    const words = [
      "migrate",
      "openai",
      "retrain",
      folder,
      "--base",
      "x",
      "--base-url",
      here.baseUrl,
      "--job",
      "ftjob-no",
    ];
    expect((await tunesmith(words)).err).toContain('has no job "ftjob-no". It has ftjob-');
    expect(here.asked).toEqual([]);
  });

  test("data and jobs that were changed since the pull", async () => {
    const folder = await pulledFolder();
    const here = await server();
    writeFileSync(join(folder, "files/file-train.jsonl"), "poison\n");
    const { of } = await retrain(folder, here.baseUrl, "--job", "ftjob-sft");
    expect(of("ftjob-sft").reason).toMatch(/Its data was changed: files\/file-train\.jsonl has 7 bytes/);
    const path = join(folder, "jobs/ftjob-sft.json");
    writeFileSync(path, readFileSync(path, "utf8").replace('"seed": 7', '"seed": 8'));
    const changed = await tunesmith([
      "migrate",
      "openai",
      "retrain",
      folder,
      "--base",
      "x",
      "--base-url",
      here.baseUrl,
    ]);
    expect([changed.code, changed.err]).toEqual([2, expect.stringContaining("sha256")]);
    expect(here.jobs).toEqual([]);
  });
});

describe("a second run", () => {
  test("finds the job of the first, uploads nothing, and sets the alias", async () => {
    const folder = await pulledFolder();
    const here = await server();
    const first = await retrain(folder, here.baseUrl, "--job", "ftjob-sft");
    expect(first.of("ftjob-sft").alias).toEqual({
      state: "not offered",
      reason: "This server has no aliases: use the new model's name in your code.",
    });
    here.routes[`POST ${ALIAS}`] = { object: "tunesmith.alias" };
    here.asked.length = 0;
    const second = await retrain(folder, here.baseUrl, "--job", "ftjob-sft");
    expect(second.of("ftjob-sft")).toMatchObject({ job: "ftjob-here0", alias: { state: "set" } });
    expect(here.asked.filter(({ method, path }) => method === "POST" && path !== ALIAS)).toEqual([]);
  });

  test("trains again what failed here, and what was deleted", async () => {
    const folder = await pulledFolder();
    const here = await server();
    await retrain(folder, here.baseUrl, "--job", "ftjob-sft");
    (here.jobs[0] as { status: string }).status = "failed";
    await retrain(folder, here.baseUrl, "--job", "ftjob-sft");
    expect(here.jobs).toHaveLength(2);
    delete here.routes["GET /v1/models/ft:tiny:personal::here0001"];
    const third = await retrain(folder, here.baseUrl, "--job", "ftjob-sft");
    expect(third.of("ftjob-sft").new_model).toBe("ft:tiny:personal::here0002");
  });

  test("uploads again what was deleted since", async () => {
    const folder = await pulledFolder();
    const here = await server({ "POST /tunesmith/preflight": sendError(400, "no") });
    await retrain(folder, here.baseUrl, "--job", "ftjob-dpo");
    delete here.routes["GET /v1/files/file-here0"];
    here.routes["POST /tunesmith/preflight"] = REPORT;
    await retrain(folder, here.baseUrl, "--job", "ftjob-dpo");
    expect(here.jobs[0]?.training_file).toBe("file-here1");
  });

  test("an alias that the server refuses is said; --no-alias asks for none", async () => {
    const folder = await pulledFolder();
    const here = await server({ [`POST ${ALIAS}`]: sendError(409, "The name is a model's.") });
    const refused = await retrain(folder, here.baseUrl, "--job", "ftjob-sft");
    expect(refused.of("ftjob-sft")).toMatchObject({
      state: "succeeded",
      alias: { state: "failed", reason: "The name is a model's." },
    });
    expect(refused.code).toBe(1);
    here.asked.length = 0;
    const without = await retrain(folder, here.baseUrl, "--job", "ftjob-sft", "--no-alias");
    expect([without.code, without.of("ftjob-sft").alias.state]).toEqual([0, "unwanted"]);
    expect(here.asked.some(({ method }) => method === "PUT")).toBe(false);
  });
});

describe("distil", () => {
  async function recorded(count: number, chat?: (index: number) => object) {
    const model = oldModel(OLD_MODEL);
    const fake = await openAi({ chat: model.chat });
    if (chat !== undefined)
      fake.state.chat = (body) => {
        const prompt = (body["messages"] as { content: string }[])[0]?.content ?? "";
        return (response) => response.end(JSON.stringify(chat(Number(prompt.slice(9)))));
      };
    const folder = temporaryFolder();
    const words = ["migrate", "openai", "record", folder, "--prompts", promptsFile(folder, questions(count))];
    expect((await tunesmith([...words, "--model", OLD_MODEL, "--yes"])).code).toBe(0);
    return folder;
  }

  test("trains on what was recorded, without answers that teach nothing good", async () => {
    const answers: Record<number, object> = {
      0: { message: { content: "half an ans" }, finish_reason: "length" },
      1: { message: { content: null, refusal: "I cannot" }, finish_reason: "stop" },
      2: { message: { content: "  " }, finish_reason: "stop" },
      3: {
        message: {
          content: null,
          tool_calls: [{ id: "call_1", type: "function", function: { name: "f", arguments: "{}" } }],
        },
        finish_reason: "tool_calls",
      },
    };
    const folder = await recorded(14, (i) => ({
      choices: [answers[i] ?? { message: { content: `A${i}` }, finish_reason: "stop" }],
      usage: null,
    }));
    const here = await server({ [`POST ${ALIAS}`]: { object: "tunesmith.alias" } });
    const words = [
      "migrate",
      "openai",
      "distil",
      folder,
      "--base",
      "tiny",
      "--base-url",
      here.baseUrl,
      "--epochs",
      "2",
    ];
    const { code, out } = await tunesmith([...words, "--json"]);
    expect(code).toBe(0);
    expect(JSON.parse(out)).toMatchObject({
      old_model: OLD_MODEL,
      rows: 11,
      left_out: { cut_off: 1, refused: 1, empty: 1 },
      training: { state: "succeeded", alias: { state: "set" } },
    });
    const { training_file: path } = JSON.parse(out) as { training_file: string };
    const lines = readFileSync(path, "utf8").trim().split("\n");
    expect(lines).toHaveLength(11);
    expect(lines.map((line) => JSON.parse(line) as object)).toContainEqual({
      messages: [
        { role: "user", content: "Question 5" },
        { role: "assistant", content: "A5" },
      ],
    });
    expect(here.jobs[0]).toMatchObject({
      model: "tiny",
      method: { type: "supervised", supervised: { hyperparameters: { n_epochs: 2 } } },
      metadata: { openai_origin: OLD_MODEL },
    });
  });

  test("too few answers are refused, and so is a folder without a recording", async () => {
    const here = await server();
    const words = (folder: string) => [
      "migrate",
      "openai",
      "distil",
      folder,
      "--base",
      "tiny",
      "--base-url",
      here.baseUrl,
    ];
    const few = await tunesmith(words(await recorded(3)));
    expect([few.code, few.err]).toEqual([2, expect.stringContaining("has 3 answers to train on")]);
    const none = await tunesmith(words(temporaryFolder()));
    expect(none.err).toContain("has no recordings");
    expect(here.asked).toEqual([]);
  });
});
