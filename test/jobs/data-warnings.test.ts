// What is odd about a job's data is told in its events, before it is queued, and stops nothing.
import { afterEach, expect, test } from "vitest";
import { ONE_EXAMPLE, openWorkbench, TEN_EXAMPLES, until, type Workbench } from "./workbench.ts";

let bench: Workbench;
afterEach(() => bench.close());

const warnings = async (job: Parameters<Workbench["events"]>[0]) =>
  (await bench.events(job)).filter(({ level }) => level === "warn");

test("each warning is an event with its lines, and the job goes on", async () => {
  bench = await openWorkbench();
  const key = `AKIA${"J4Q7".repeat(4)}`;
  const job = await bench.create({
    content: `${TEN_EXAMPLES}${ONE_EXAMPLE}${ONE_EXAMPLE}${ONE_EXAMPLE.replace("One taco", `Use ${key}`)}`,
    validationFileId: await bench.upload(ONE_EXAMPLE),
  });
  bench.worker().start();
  await until("the job has succeeded", async () => (await bench.status(job)) === "succeeded");
  expect((await warnings(job)).map(({ data }) => data)).toEqual([
    { kind: "secret_key", param: "training_file", count: 1, lines: [13] },
    { kind: "leakage", param: "validation_file", count: 1, lines: [1] },
    { kind: "exact_duplicates", param: "training_file", count: 1, lines: [12] },
  ]);
  const messages = (await bench.events(job)).map(({ message }) => message);
  expect(messages.indexOf("Files validated, moving job to queued state")).toBeGreaterThan(
    messages.findIndex((message) => message.includes("an exact copy of an earlier row")),
  );
  expect(messages.join("\n")).not.toContain(key.slice(0, 8));
});

test("sound data brings no warning", async () => {
  bench = await openWorkbench();
  const job = await bench.create();
  bench.worker().start();
  await until("the job has succeeded", async () => (await bench.status(job)) === "succeeded");
  expect(await warnings(job)).toEqual([]);
});
