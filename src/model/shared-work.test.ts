import { describe, expect, test } from "vitest";
import { Cancelled } from "../errors.ts";
import { shareWork } from "./shared-work.ts";

/** Work that ends when the test says so. */
function setUp() {
  const started: {
    key: string;
    signal: AbortSignal;
    end: (result: string) => void;
    fail: (e: Error) => void;
  }[] = [];
  const shared = shareWork<string>(
    (key, signal) =>
      new Promise((resolve, reject) => started.push({ key, signal, end: resolve, fail: reject })),
  );
  return { started, shared };
}

const never = new AbortController().signal;

describe("shareWork", () => {
  test("is done once for all who wait, and anew for whoever comes later", async () => {
    const { started, shared } = setUp();
    const both = [shared("a", never), shared("a", never)];
    const other = shared("b", never);
    expect(started.map(({ key }) => key)).toEqual(["a", "b"]);
    started[0]?.end("one");
    started[1]?.end("two");
    expect(await Promise.all([...both, other])).toEqual(["one", "one", "two"]);
    const later = shared("a", never);
    started[2]?.end("three");
    expect(await later).toBe("three");
  });

  test("a failure reaches all, and the next caller tries again", async () => {
    const { started, shared } = setUp();
    const both = Promise.allSettled([shared("a", never), shared("a", never)]);
    started[0]?.fail(new Error("broken"));
    for (const one of await both)
      expect(one).toMatchObject({ status: "rejected", reason: { message: "broken" } });
    void shared("a", never);
    expect(started).toHaveLength(2);
  });

  test("one who leaves is let go at once; the work goes on for the others", async () => {
    const { started, shared } = setUp();
    const leaving = new AbortController();
    const gone = shared("a", leaving.signal);
    const stays = shared("a", never);
    leaving.abort();
    await expect(gone).rejects.toThrow(Cancelled);
    expect(started[0]?.signal.aborted).toBe(false);
    started[0]?.end("done");
    expect(await stays).toBe("done");
  });

  test("the work is aborted when the last has left; a later caller does not get the aborted one", async () => {
    const { started, shared } = setUp();
    const leaving = new AbortController();
    const both = Promise.allSettled([shared("a", leaving.signal), shared("a", leaving.signal)]);
    leaving.abort();
    await both;
    expect(started[0]?.signal.aborted).toBe(true);
    const later = shared("a", never);
    started[0]?.fail(new Error("aborted"));
    started[1]?.end("done");
    expect(await later).toBe("done");
  });

  test("who comes with an aborted signal starts nothing", async () => {
    const { started, shared } = setUp();
    await expect(shared("a", AbortSignal.abort())).rejects.toThrow(Cancelled);
    expect(started).toEqual([]);
  });
});
