// The event log survives a trainer killed in the middle of a line.
import { appendFile, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { EventLog, readEvents } from "./event-log.ts";
import type { TrainerEvent } from "./job-directory.ts";

let folder: string;
let path: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "event-log-"));
  path = join(folder, "events.jsonl");
});
afterEach(() => rm(folder, { recursive: true }));

const event = (step: number): TrainerEvent => ({ type: "resumed", at: 1, step });

async function append(...events: TrainerEvent[]): Promise<void> {
  const log = await EventLog.open(path);
  for (const one of events) await log.append(one);
  await log.flush();
  await log.close();
}

it("appends one line an event, also after it was opened again", async () => {
  await append(event(1), event(2));
  await append(event(3));
  expect(await readFile(path, "utf8")).toBe(
    [1, 2, 3].map((step) => `{"type":"resumed","at":1,"step":${step}}\n`).join(""),
  );
  expect(await readEvents(path)).toEqual([event(1), event(2), event(3)]);
});

it("cuts a torn last line off when it opens, whatever it holds", async () => {
  for (const torn of [
    '{"type":"metr',
    "{",
    '{"type":"resumed","at":1,"step":9}',
    '{"text":"ü'.slice(0, -1) + "\xc3",
  ]) {
    await rm(path, { force: true });
    await append(event(1));
    await appendFile(path, torn, "latin1");
    // Readers pass over it before, and it is gone after.
    expect(await readEvents(path)).toEqual([event(1)]);
    await append(event(2));
    expect(await readEvents(path)).toEqual([event(1), event(2)]);
  }
});

it("starts over where only a torn line is there", async () => {
  await writeFile(path, "half a li");
  await append(event(1));
  expect(await readEvents(path)).toEqual([event(1)]);
});

it("reads an empty log as no events", async () => {
  await append();
  expect(await readEvents(path)).toEqual([]);
});
