// Whether a client is told to come back after a limit.
import { expect, it } from "vitest";
import { errorAnswer, RateLimited } from "./error-answers.ts";

it.each([
  [500, 1, true],
  [60_000, 60, true],
  [60_001, 61, false],
])("a limit that is over in %i ms: retry-after %i, x-should-retry %s", (retryAfterMs, seconds, retry) => {
  const limited = new RateLimited("Slow down.", { kind: "requests", retryAfterMs });
  expect(errorAnswer(limited, "req_1")).toMatchObject({ status: 429, retryAfterSeconds: seconds, retry });
});
