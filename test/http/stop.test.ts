// Stopping a server whose rooms fail while they close: the failure is told, and the home folder is free all the same.
import { expect, test } from "vitest";
import { FakeEngine, testServer } from "./harness.ts";

class EngineThatCannotClose extends FakeEngine {
  override async close(): Promise<void> {
    throw new Error("the engine cannot close");
  }
}

test.each([
  { room: "the worker", message: "the worker cannot stop" },
  { room: "the engine", message: "the engine cannot close" },
])("$room fails: stop says so, and the next server gets the home folder", async ({ room, message }) => {
  let worked = true;
  const failing = await testServer(
    {},
    room === "the engine"
      ? { engine: new EngineThatCannotClose() }
      : {
          createWorker: () => ({
            start: () => undefined,
            wake: () => undefined,
            stop: async () => {
              worked = false;
              throw new Error("the worker cannot stop");
            },
          }),
        },
    { mayFailToStop: true },
  );
  await failing.listen();
  await expect(failing.stop()).rejects.toThrow(message);
  if (room === "the worker") expect(worked).toBe(false);
  // The same answer for whoever asks again, and no second attempt.
  await expect(failing.stop()).rejects.toThrow(message);
  const next = await testServer({ homeDirectory: failing.home });
  expect((await next.app.inject({ method: "GET", url: "/healthz" })).statusCode).toBe(200);
});
