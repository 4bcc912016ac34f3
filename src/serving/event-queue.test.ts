import { describe, expect, it } from "vitest";
import { EventQueue } from "./event-queue.ts";

describe("EventQueue", () => {
  it("gives events in order, also those pushed while the reader waits", async () => {
    const queue = new EventQueue<number>();
    queue.push(1);
    const read: number[] = [];
    const reading = (async () => {
      for await (const item of queue) read.push(item);
    })();
    await new Promise(setImmediate);
    queue.push(2);
    await new Promise(setImmediate);
    queue.end();
    await reading;
    expect(read).toEqual([1, 2]);
  });

  it("gives what came before an error, then the error", async () => {
    const queue = new EventQueue<number>();
    queue.push(1);
    queue.fail(new Error("broken"));
    queue.push(2);
    const read: number[] = [];
    await expect(
      (async () => {
        for await (const item of queue) read.push(item);
      })(),
    ).rejects.toThrow("broken");
    expect(read).toEqual([1]);
  });
});
