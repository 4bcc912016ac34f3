// The buckets behind a key's limits, on a clock of the test's own.
import fc from "fast-check";
import { expect, test } from "vitest";
import { RateLimited } from "./error-answers.ts";
import { goDuration, RateLimits } from "./rate-limits.ts";

const key = (requestsPerMinute: number | null, tokensPerMinute: number | null, id = "key_a") => ({
  id,
  prefix: "sk-tunesmith-abcdef",
  requestsPerMinute,
  tokensPerMinute,
});

function limitsAt(start = 0) {
  const clock = { now: start };
  return { clock, limits: new RateLimits(() => clock.now) };
}

function refusalOf(run: () => void): RateLimited | null {
  try {
    run();
    return null;
  } catch (error) {
    if (error instanceof RateLimited) return error;
    throw error;
  }
}

test("who leaves a reserve is refused before it is touched, and others are not", () => {
  const { clock, limits } = limitsAt();
  const both = key(60, 1000);
  limits.spendTokens(both, 500);
  limits.admit(both, 0.5);
  limits.spendTokens(both, 10);
  expect(refusalOf(() => limits.admit(both, 0.5))).toMatchObject({ kind: "tokens", retryAfterMs: 600 });
  limits.admit(both);
  clock.now = 600;
  limits.admit(both, 0.5);
  // Requests have theirs, too; one is always enough.
  for (let count = 0; count < 27; count++) limits.admit(both);
  clock.now = 1200;
  expect(refusalOf(() => [1, 2, 3].forEach(() => limits.admit(both, 0.5)))).toMatchObject({
    kind: "requests",
  });
  const one = key(1, null, "key_b");
  limits.admit(one, 0.5);
  expect(refusalOf(() => limits.admit(one, 0.5))).toMatchObject({ retryAfterMs: 60_000 });
});

test("requests run out, and come back evenly", () => {
  const { clock, limits } = limitsAt();
  const three = key(3, null);
  for (let count = 0; count < 3; count++) limits.admit(three);
  expect(refusalOf(() => limits.admit(three))).toMatchObject({
    message:
      "Rate limit reached for requests of the key sk-tunesmith-abcdef…: Limit 3 a minute. Please try again in 20s.",
    code: "rate_limit_exceeded",
    kind: "requests",
    retryAfterMs: 20_000,
  });
  clock.now = 20_000;
  limits.admit(three);
  expect(refusalOf(() => limits.admit(three))).not.toBeNull();
});

test("tokens are taken afterwards, and a debt is waited for", () => {
  const { clock, limits } = limitsAt();
  const hundred = key(null, 100);
  limits.admit(hundred);
  limits.spendTokens(hundred, 150);
  expect(limits.headers(hundred)).toEqual({
    "x-ratelimit-limit-tokens": "100",
    "x-ratelimit-remaining-tokens": "0",
    "x-ratelimit-reset-tokens": "1m30s",
  });
  const refused = refusalOf(() => limits.admit(hundred));
  expect(refused).toMatchObject({ kind: "tokens" });
  clock.now += refused?.retryAfterMs ?? 0;
  limits.admit(hundred);
});

test("keys do not share buckets, and a key without limits has none", () => {
  const { limits } = limitsAt();
  limits.admit(key(1, null, "a"));
  limits.admit(key(1, null, "b"));
  const free = key(null, null, "c");
  for (let count = 0; count < 100; count++) limits.admit(free);
  limits.spendTokens(free, 1e9);
  expect(limits.headers(free)).toEqual({});
});

test("a request that was refused costs nothing", () => {
  const { limits } = limitsAt();
  const both = key(2, 10);
  limits.admit(both);
  limits.spendTokens(both, 20);
  expect(refusalOf(() => limits.admit(both))).not.toBeNull();
  expect(limits.headers(both)["x-ratelimit-remaining-requests"]).toBe("1");
});

test("over any time a key gets its limit and one bucket at most, and waiting as told always suffices", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 1000 }),
      fc.array(fc.integer({ min: 0, max: 5000 }), { maxLength: 200 }),
      (limit, pauses) => {
        const { clock, limits } = limitsAt(1_000_000);
        const start = clock.now;
        let admitted = 0;
        for (const pause of pauses) {
          clock.now += pause;
          const refused = refusalOf(() => limits.admit(key(limit, null)));
          if (refused === null) admitted += 1;
          else {
            clock.now += Math.ceil(refused.retryAfterMs) + 1;
            limits.admit(key(limit, null));
            admitted += 1;
          }
        }
        expect(admitted).toBeLessThanOrEqual(limit + (limit * (clock.now - start)) / 60_000 + 1e-6);
      },
    ),
  );
});

test("a clock set back neither gives nor takes", () => {
  const { clock, limits } = limitsAt(100_000);
  const one = key(1, null);
  limits.admit(one);
  clock.now = 0;
  expect(refusalOf(() => limits.admit(one))).not.toBeNull();
  clock.now = 60_000;
  limits.admit(one);
});

test.each([
  [0, "0s"],
  [-5, "0s"],
  [0.2, "1ms"],
  [250, "250ms"],
  [999.5, "1s"],
  [1500, "1.5s"],
  [59_999, "59.999s"],
  [60_000, "1m0s"],
  [360_000, "6m0s"],
  [90_250, "1m30.25s"],
  [3_600_000, "1h0m0s"],
  [86_399_999, "23h59m59.999s"],
])("%d ms is %s", (milliseconds, text) => {
  expect(goDuration(milliseconds)).toBe(text);
});
