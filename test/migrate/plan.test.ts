// `tunesmith migrate openai plan`: what it lists, until when models answer, and what cannot be had.
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { MigrationPlan } from "../../src/migrate/plan.ts";
import { tunesmith } from "../cli/fake-server.ts";
import { KEY, sendError, sendJson, tooFast } from "./fake-openai.ts";
import { customer, OLD_MODEL, openAi } from "./world.ts";

/** What has stopped depends on the day. */
const setDay = (day: string) => vi.useFakeTimers({ toFake: ["Date"], now: new Date(`${day}T00:00:00Z`) });
beforeEach(() => void setDay("2026-11-25"));
afterEach(() => void vi.useRealTimers());

const planned = async (): Promise<MigrationPlan> => {
  const { code, out, err } = await tunesmith(["migrate", "openai", "plan", "--json"]);
  expect(err).toBe("");
  expect(code).toBe(0);
  return JSON.parse(out) as MigrationPlan;
};

const why = (plan: MigrationPlan, what: string): string | undefined =>
  plan.cannot_be_had.find((each) => each.what === what)?.why;

test("every object is there, page after page, and nothing is changed", async () => {
  const fake = await openAi();
  const plan = await planned();
  expect(plan.jobs.map(({ id }) => id)).toEqual(customer().jobs.map(({ id }) => id));
  expect(plan.files.map(({ id }) => id).sort()).toEqual([
    "file-deleted",
    "file-expired",
    "file-pairs",
    "file-result",
    "file-train",
    "file-unused",
    "file-valid",
  ]);
  expect(plan).toMatchObject({ other_files: 1, stored_completions: { count: 5, more: false } });
  expect(plan.evals).toEqual([{ id: "eval_1", name: "Tickets" }]);
  const bytes = plan.files
    .filter(({ state }) => state === "there")
    .reduce((sum, file) => sum + (file.bytes ?? 0), 0);
  expect(plan.totals.bytes).toBe(bytes);
  expect(plan.totals.seconds).toBeGreaterThan(0);
  expect(new Set(fake.asked.map(({ method }) => method))).toEqual(new Set(["GET"]));
});

test("a model's last day is its card's, else its base's; an unknown base is said", async () => {
  await openAi();
  const { models } = await planned();
  const of = (id: string) => models.find((model) => model.id === id);
  expect(of(OLD_MODEL)).toMatchObject({ stops_on: "2027-01-14", stops_on_from: "base", job: "ftjob-sft" });
  expect(of("ft:gpt-4.1-2025-04-14:acme::dpod1234")).toMatchObject({
    stops_on: "2026-12-24",
    stops_on_from: "model card",
  });
  expect(of("ft:gpt-9-turbo:acme::what1234")).toMatchObject({
    stops_on: null,
    stops_on_from: "unknown",
    job: null,
  });
  expect(of("ft:gpt-3.5-turbo-0125:acme::turb1234")).toMatchObject({
    stops_on: "2026-10-23",
    state: "stopped",
  });
  expect(of("ft:gpt-4o-2024-08-06:acme::gone1234")).toMatchObject({ state: "deleted" });
});

test("what cannot be had is named with its reason", async () => {
  await openAi();
  const plan = await planned();
  expect(why(plan, "the weights of the fine-tuned models")).toContain("exports none");
  expect(why(plan, "file file-expired")).toBe(
    "It has expired; OpenAI has deleted its content. It belongs to ftjob-failed.",
  );
  expect(why(plan, "file file-deleted")).toContain("no longer lists it");
  expect(why(plan, "answers of ft:gpt-3.5-turbo-0125:acme::turb1234")).toContain("2026-10-23");
  const refused = Object.fromEntries(plan.jobs.map(({ id, not_retrainable }) => [id, not_retrainable]));
  expect(refused["ftjob-sft"]).toBeNull();
  expect(refused["ftjob-rft"]).toContain("reinforcement");
  expect(refused["ftjob-failed"]).toContain("invalid_n_examples: Training file has 3 example(s)");
  expect(refused["ftjob-running"]).toContain("running");
});

test("after the day that evals end, the list's refusal and the date are both said", async () => {
  const fake = await openAi();
  fake.fail("GET", "/v1/evals", sendError(404, "Invalid URL (GET /v1/evals)"));
  setDay("2026-12-01");
  const plan = await planned();
  expect(plan.evals).toEqual([]);
  expect(plan.cannot_be_had.filter(({ what }) => what === "evals").map((each) => each.why)).toEqual([
    "Invalid URL (GET /v1/evals)",
    "OpenAI has switched them off on 2026-11-30.",
  ]);
});

test("the table says the same to people, and obeys nothing in names", async () => {
  const world = customer();
  (world.files[0] as { filename: string }).filename = "evil\u001b[2Jname\nx.jsonl";
  await openAi(world);
  const { code, out } = await tunesmith(["migrate", "openai", "plan"]);
  expect(code).toBe(0);
  expect(out).toMatch(new RegExp(`${OLD_MODEL} +2027-01-14 +answers +ftjob-sft`));
  expect(out).toContain("not known: nobody has said of the base gpt-9-turbo");
  expect(out).toContain("evil [2Jname x.jsonl");
  expect(out).not.toContain("\u001b");
});

describe("the pace that OpenAI asks for", () => {
  test("a Retry-After is waited for, by all requests", async () => {
    const fake = await openAi();
    fake.fail("GET", "/v1/models", tooFast(1));
    await planned();
    const [first, second] = fake.asked.filter(({ path }) => path === "/v1/models");
    expect((second?.atMs ?? 0) - (first?.atMs ?? 0)).toBeGreaterThanOrEqual(980);
  });

  test("a long one is not: the list is left out, with the time to come back", async () => {
    const fake = await openAi();
    fake.fail("GET", "/v1/evals", tooFast(3600));
    const plan = await planned();
    expect(why(plan, "evals")).toContain("OpenAI asks to wait 3600 seconds");
    expect(fake.count("GET", "/v1/evals")).toBe(1);
  });

  test("a passing fault is tried again, another is not", async () => {
    const fake = await openAi();
    fake.fail("GET", "/v1/models", sendError(500, "server error"), (response) => response.destroy());
    fake.fail("GET", "/v1/evals", sendError(403, "Missing scopes: api.evals.read"));
    const plan = await planned();
    expect(plan.models.length).toBeGreaterThan(0);
    expect(fake.count("GET", "/v1/models")).toBe(3);
    expect(why(plan, "evals")).toContain("Missing scopes");
    expect(fake.count("GET", "/v1/evals")).toBe(1);
  });

  test("tries are bounded", async () => {
    const fake = await openAi();
    const broken = sendError(503, "overloaded", null, null, { "retry-after-ms": "1" });
    fake.fail("GET", "/v1/evals", ...Array.from({ length: 20 }, () => broken));
    expect(why(await planned(), "evals")).toBe("overloaded");
    expect(fake.count("GET", "/v1/evals")).toBe(6);
  });
});

describe("the key", () => {
  test("a wrong one ends the command without being shown", async () => {
    await openAi({ ...customer(), key: "sk-another-0123456789" });
    const { code, out, err } = await tunesmith(["migrate", "openai", "plan"]);
    expect([code, out]).toEqual([1, ""]);
    expect(err).toContain("does not accept the key in OPENAI_API_KEY");
    expect(err).not.toContain(KEY.slice(0, 8));
  });

  test("none is said, with the way without one", async () => {
    vi.stubEnv("OPENAI_API_KEY", "");
    const { code, err } = await tunesmith(["migrate", "openai", "plan"]);
    vi.unstubAllEnvs();
    expect(code).toBe(2);
    expect(err).toContain("pull --from FOLDER");
  });

  test("a message that carries it is shown without it", async () => {
    const fake = await openAi();
    fake.fail("GET", "/v1/evals", sendError(400, `bad key ${KEY} and sk-abcd****efgh`));
    expect(why(await planned(), "evals")).toBe("bad key [key] and [key]");
  });

  test("it goes to OpenAI alone, and the server's key is not sent there", async () => {
    const fake = await openAi();
    vi.stubEnv("TUNESMITH_API_KEY", "of-the-server");
    await tunesmith(["migrate", "openai", "plan", "--api-key", "also-of-the-server"]);
    expect(new Set(fake.asked.map(({ headers }) => headers.authorization))).toEqual(
      new Set([`Bearer ${KEY}`]),
    );
  });
});

test("a list that goes in a circle ends, and so does an answer that is no list", async () => {
  const fake = await openAi();
  const same = sendJson(200, { object: "list", data: [{ id: "eval_1" }], has_more: true });
  fake.fail("GET", "/v1/evals", same, same);
  fake.fail("GET", "/v1/chat/completions", sendJson(200, { data: "none" }));
  const plan = await planned();
  expect(why(plan, "evals")).toContain('goes in a circle at "eval_1"');
  expect(why(plan, "stored completions")).toContain("Expected a list");
});
