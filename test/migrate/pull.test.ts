// `tunesmith migrate openai pull`: what lies in the folder, what fails and is tried again, and folders that are not what they should be.
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { Manifest } from "../../src/migrate/manifest.ts";
import type { PullSummary } from "../../src/migrate/pull.ts";
import { tunesmith } from "../cli/fake-server.ts";
import { cutAfter, KEY, sendError, sendJson, tooFast } from "./fake-openai.ts";
import { CSV, customer, job, openAi, rows, temporaryFolder } from "./world.ts";

const pull = (folder: string, ...more: string[]) =>
  tunesmith(["migrate", "openai", "pull", "--out", folder, ...more]);

async function pulled(folder: string, wantedCode = 1): Promise<PullSummary> {
  const { code, out, err } = await pull(folder, "--json");
  expect({ code, err }).toEqual({ code: wantedCode, err: "" });
  return JSON.parse(out) as PullSummary;
}

const read = (folder: string, path: string): string => readFileSync(join(folder, path), "utf8");
const parsed = (folder: string, path: string) => JSON.parse(read(folder, path)) as Record<string, unknown>;
const manifestOf = (folder: string) => parsed(folder, "manifest.json") as unknown as Manifest;

/** Every file of the folder with its text, without the manifest's time. */
function everything(folder: string): Record<string, string> {
  const paths = readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
  return Object.fromEntries(
    paths.map((path) => [
      path.slice(folder.length + 1),
      readFileSync(path, "utf8").replace(/"updated_at": \d+/, ""),
    ]),
  );
}

/** A customer all of whose things can be had. */
function whole() {
  const world = customer();
  world.jobs = world.jobs.filter(({ id }) => !["ftjob-failed", "ftjob-gone", "ftjob-running"].includes(id));
  world.files = world.files.filter(({ id }) => id !== "file-expired");
  return world;
}

test("everything that OpenAI gives out lies in the folder, to the byte", async () => {
  await openAi();
  const folder = join(temporaryFolder(), "pull");
  const summary = await pulled(folder);
  expect(summary.counts).toEqual({
    job: { done: 6, failed: 0 },
    file: { done: 4, failed: 2 },
    result: { done: 1, failed: 0 },
    eval: { done: 1, failed: 0 },
    completion: { done: 5, failed: 0 },
  });
  expect(read(folder, "files/file-train.jsonl")).toBe(rows(12));
  expect(read(folder, "results/file-result.csv")).toBe(CSV);
  const {
    job: recipe,
    events,
    checkpoints,
  } = parsed(folder, "jobs/ftjob-sft.json") as {
    job: object;
    events: { id: string }[];
    checkpoints: { id: string }[];
  };
  expect(recipe).toEqual(customer().jobs.at(-1));
  expect(events.map(({ id }) => id)).toEqual([1, 2, 3, 4, 5].map((n) => `ftevent-${n}`));
  expect(checkpoints).toHaveLength(3);
  expect(parsed(folder, "evals/eval_1.json")).toMatchObject({ eval: { name: "Tickets" }, all_runs: true });
  expect(parsed(folder, "completions/chatcmpl-3.json")).toMatchObject({
    completion: { id: "chatcmpl-3" },
    messages: [{ content: "hi" }],
  });
  expect(existsSync(join(folder, "files/file-photo.jsonl"))).toBe(false);
  expect(readdirSync(folder).sort()).toEqual([
    "completions",
    "evals",
    "files",
    "jobs",
    "manifest.json",
    "results",
  ]);
});

test("what fails is noted with its reason, and tried again by the next pull, which fetches nothing else", async () => {
  const world = customer();
  const fake = await openAi(world);
  const folder = temporaryFolder();
  const first = await pulled(folder);
  expect(first.failed).toEqual([
    { kind: "file", id: "file-expired", reason: "No such File object: file-expired" },
    { kind: "file", id: "file-deleted", reason: "No such File object: file-deleted" },
  ]);
  expect(manifestOf(folder).items.find(({ id }) => id === "file-deleted")).toMatchObject({
    state: "failed",
    sha256: null,
  });
  // It is there after all.
  world.files.push({
    id: "file-deleted",
    filename: "x",
    purpose: "fine-tune",
    content: Buffer.from("back\n"),
  });
  fake.asked.length = 0;
  const second = await pulled(folder);
  expect(second.failed.map(({ id }) => id)).toEqual(["file-expired"]);
  expect(read(folder, "files/file-deleted.jsonl")).toBe("back\n");
  const contents = fake.asked.filter(({ path }) => path.endsWith("/content")).map(({ path }) => path);
  expect(contents.sort()).toEqual(["/v1/files/file-deleted/content", "/v1/files/file-expired/content"]);
  // And the job that runs is read again, because it may have changed.
  const events = fake.asked.filter(({ path }) => path.endsWith("/events")).map(({ path }) => path);
  expect(events).toEqual(["/v1/fine_tuning/jobs/ftjob-running/events"]);
});

test("a list that OpenAI refuses is said, and the rest is fetched", async () => {
  const fake = await openAi(whole());
  fake.fail("GET", "/v1/evals", sendError(404, "Invalid URL (GET /v1/evals)"));
  const folder = temporaryFolder();
  const { code, out } = await pull(folder);
  expect(code).toBe(1);
  expect(out).toContain("evals could not be listed: Invalid URL (GET /v1/evals)");
  expect(out).toContain("data files          4");
  expect((await pulled(folder, 0)).counts.eval).toEqual({ done: 1, failed: 0 });
});

test("the pace that OpenAI asks for is kept while files are fetched", async () => {
  const fake = await openAi(whole());
  fake.fail("GET", "/v1/files/file-train/content", tooFast(1), sendError(503, "busy"));
  const folder = temporaryFolder();
  await pulled(folder, 0);
  expect(read(folder, "files/file-train.jsonl")).toBe(rows(12));
  expect(fake.count("GET", "/v1/files/file-train/content")).toBe(3);
});

describe("broken downloads", () => {
  const content = Buffer.from(rows(200));

  async function broken(ranges: boolean, cuts: number[]) {
    const world = { ...whole(), ranges };
    (world.files[0] as { content: Buffer }).content = content;
    const fake = await openAi(world);
    fake.fail("GET", "/v1/files/file-train/content", ...cuts.map((bytes) => cutAfter(content, bytes)));
    const folder = temporaryFolder();
    return { fake, folder, ...(await pull(folder, "--json")) };
  }

  test("go on where they stopped, where parts are sent", async () => {
    const { fake, folder, code } = await broken(true, [5000]);
    expect(code).toBe(0);
    expect(read(folder, "files/file-train.jsonl")).toBe(content.toString());
    const asked = fake.asked.filter(({ path }) => path === "/v1/files/file-train/content");
    expect(asked.map(({ headers }) => headers.range)).toEqual([undefined, "bytes=5000-"]);
  });

  test("begin anew where no parts are sent", async () => {
    const { folder, code } = await broken(false, [5000, 7000]);
    expect(code).toBe(0);
    expect(read(folder, "files/file-train.jsonl")).toBe(content.toString());
  });

  test("end after some that came no further; nothing half-done has the file's name", async () => {
    const { fake, folder, code, out } = await broken(
      false,
      Array.from({ length: 30 }, () => 5000),
    );
    expect(code).toBe(1);
    expect((JSON.parse(out) as PullSummary).failed[0]?.reason).toContain("broke off 4 times");
    expect(fake.count("GET", "/v1/files/file-train/content")).toBe(5);
    expect(existsSync(join(folder, "files/file-train.jsonl"))).toBe(false);
    fake.fail("GET", "/v1/files/file-train/content");
    expect((await pulled(folder, 0)).failed).toEqual([]);
    expect(read(folder, "files/file-train.jsonl")).toBe(content.toString());
    expect(readdirSync(join(folder, "files")).filter((name) => name.startsWith("."))).toEqual([]);
  });

  test("an answer that ends properly but too early is one", async () => {
    const fake = await openAi(whole());
    const short = { "content-type": "application/octet-stream", "content-length": 10 };
    fake.fail("GET", "/v1/files/file-train/content", (response) => {
      response.writeHead(200, short);
      response.end(Buffer.from(rows(12)).subarray(0, 10));
    });
    const folder = temporaryFolder();
    await pulled(folder, 0);
    expect(read(folder, "files/file-train.jsonl")).toBe(rows(12));
  });

  test("a result file is taken as base64 or as CSV, and as nothing else", async () => {
    const fake = await openAi(whole());
    const send = (text: string) => (response: { end(body: string): void }) => response.end(text);
    fake.fail("GET", "/v1/files/file-result/content", send("<html>no</html>"));
    const folder = temporaryFolder();
    const summary = await pulled(folder);
    expect(summary.failed[0]?.reason).toContain("neither a CSV nor the base64 of one");
    fake.fail("GET", "/v1/files/file-result/content", send(CSV));
    await pulled(folder, 0);
    expect(read(folder, "results/file-result.csv")).toBe(CSV);
  });
});

describe("ids and the key", () => {
  test("an id that climbs out stays in the folder", async () => {
    const world = whole();
    const evil = "../../../evil";
    world.jobs.push(job(evil, { training_file: "..\\..\\evil", result_files: ["/etc/evil"] }));
    world.completions = [{ id: "../up" }, { id: "con" }];
    world.evals = [{ id: "a/b" }];
    await openAi(world);
    const outer = temporaryFolder();
    const summary = await pulled(join(outer, "deep", "er"));
    expect(summary.counts.job).toEqual({ done: 4, failed: 0 });
    expect(readdirSync(outer)).toEqual(["deep"]);
    const names = readdirSync(join(outer, "deep", "er", "jobs"));
    expect(names.filter((name) => /^other-[0-9a-f]{24}\.json$/.test(name))).toHaveLength(1);
    expect(
      readdirSync(join(outer, "deep", "er", "completions")).every((name) => name.startsWith("other-")),
    ).toBe(true);
  });

  test("the key is in no file of the folder", async () => {
    const fake = await openAi(whole());
    fake.fail("GET", "/v1/files/file-train/content", sendError(403, `the key ${KEY} may not`));
    const folder = temporaryFolder();
    await pulled(folder);
    for (const text of Object.values(everything(folder))) expect(text).not.toContain(KEY);
    expect(JSON.stringify(manifestOf(folder))).toContain("the key [key] may not");
  });

  test("a wrong key half-way ends the pull, and what is there stays", async () => {
    const fake = await openAi(whole());
    fake.fail("GET", "/v1/files/file-train/content", sendError(401, "no", "invalid_api_key"));
    const folder = temporaryFolder();
    const { code, err } = await pull(folder);
    expect(code).toBe(1);
    expect(err).toContain("does not accept the key");
    expect(
      manifestOf(folder).items.filter(({ kind, state }) => kind === "job" && state === "done"),
    ).toHaveLength(3);
    await pulled(folder, 0);
  });
});

describe("folders that are not what they should be", () => {
  async function good(): Promise<string> {
    await openAi(whole());
    const folder = temporaryFolder();
    await pulled(folder, 0);
    return folder;
  }

  test("one that holds something else is not written to", async () => {
    const fake = await openAi(whole());
    const folder = temporaryFolder();
    writeFileSync(join(folder, "mine.txt"), "");
    const { code, err } = await pull(folder);
    expect(code).toBe(2);
    expect(err).toContain("holds something that is no pull (mine.txt)");
    expect(readdirSync(folder)).toEqual(["mine.txt"]);
    expect(fake.asked).toEqual([]);
  });

  test.each<[string, (manifest: Manifest) => unknown, RegExp]>([
    [
      "a path that climbs out",
      (m) => ({ ...m, items: [{ ...m.items[0], path: "../x.json" }] }),
      /lies at "\.\.\/x\.json"/,
    ],
    ["an item twice", (m) => ({ ...m, items: [m.items[0], m.items[0]] }), /names jobs\/[\w-]+\.json twice/],
    [
      "another kind",
      (m) => ({ ...m, items: [{ ...m.items[0], kind: "weights" }] }),
      /"items\.0\.kind" is wrong/,
    ],
    ["a checksum that is none", (m) => ({ ...m, items: [{ ...m.items[0], sha256: "0" }] }), /sha256/],
    ["another version", (m) => ({ ...m, version: 2 }), /"version" is wrong/],
    ["nothing", () => null, /no JSON|is wrong/],
  ])("a manifest edited to have %s is refused", async (_name, edit, message) => {
    const folder = await good();
    writeFileSync(join(folder, "manifest.json"), JSON.stringify(edit(manifestOf(folder))));
    const { code, err } = await pull(folder);
    expect(code).toBe(2);
    expect(err).toMatch(message);
  });

  test("a manifest that is no file, or no JSON, is refused", async () => {
    const folder = await good();
    writeFileSync(join(folder, "manifest.json"), "{");
    expect((await pull(folder)).err).toContain("found one that is no JSON");
    rmSync(join(folder, "manifest.json"));
    mkdirSync(join(folder, "manifest.json"));
    expect((await pull(folder)).err).toContain("no plain file");
  });

  test("a file that was changed, removed or replaced by a link is fetched again", async () => {
    const folder = await good();
    const before = everything(folder);
    writeFileSync(join(folder, "files/file-train.jsonl"), rows(12).replace("Ticket 0", "Ticket 9"));
    rmSync(join(folder, "files/file-valid.jsonl"));
    rmSync(join(folder, "jobs/ftjob-sft.json"));
    symlinkSync(join(folder, "files/file-pairs.jsonl"), join(folder, "jobs/ftjob-sft.json"));
    await pulled(folder, 0);
    expect(everything(folder)).toEqual(before);
  });

  test("a pull from elsewhere has a folder of its own", async () => {
    const folder = await good();
    await openAi(whole());
    const { code, err } = await pull(folder);
    expect(code).toBe(2);
    expect(err).toContain("is a pull from http://127.0.0.1:");
  });

  test("a folder in which a command works is left to it; that of one which died is not", async () => {
    const folder = await good();
    writeFileSync(join(folder, ".lock"), `${process.pid} ${(await import("node:os")).hostname()} x\n`);
    const { code, err } = await pull(folder);
    expect(code).toBe(1);
    expect(err).toContain(`Another command (process ${process.pid}`);
    writeFileSync(join(folder, ".lock"), `999999999 ${(await import("node:os")).hostname()} x\n`);
    await pulled(folder, 0);
    expect(readdirSync(folder).filter((name) => name.startsWith("."))).toEqual([]);
  });

  test("of two commands that begin together one works, and the other leaves it alone", async () => {
    const folder = await good();
    const results = await Promise.all([pull(folder), pull(folder)]);
    expect(results.map(({ code }) => code).sort()).toEqual([0, 1]);
    expect(results.find(({ code }) => code === 1)?.err).toContain("Another command");
  });
});

test("an answer that is no list leaves no folder half-described", async () => {
  const fake = await openAi(whole());
  fake.fail("GET", "/v1/fine_tuning/jobs", sendJson(200, { data: [{ id: "ftjob-x" }], has_more: false }));
  const folder = temporaryFolder();
  const summary = await pulled(folder);
  expect(summary.problems[0]).toMatchObject({ section: "jobs" });
  expect(summary.problems[0]?.message).toContain("data.0.model");
});
