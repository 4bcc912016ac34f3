import { expect, test } from "vitest";
import type { Alias, Candidate } from "../store/alias-rows.ts";
import { chooseModel } from "./alias-choice.ts";

function alias(candidate: Partial<Candidate> | null): Alias {
  return {
    ...{ projectId: "proj_a", name: "triage", createdAt: 1, movedAt: 1, model: "v1", previousModel: null },
    candidate:
      candidate === null
        ? null
        : {
            ...{ model: "v2", mode: "canary" as const, percent: 20, createdAt: 1, compared: 0, equal: 0 },
            meanSimilarity: null,
            ...candidate,
          },
  };
}

const USERS = Array.from({ length: 4000 }, (_, i) => `user-${i}`);
const chosenBy = (given: Alias) => USERS.filter((user) => chooseModel(given, user).model === "v2");

test("without a candidate everybody gets the alias's model", () => {
  expect(chooseModel(alias(null), "user-1")).toEqual({ model: "v1", shadow: null });
  expect(chooseModel(alias(null), null)).toEqual({ model: "v1", shadow: null });
});

test("a canary answers its share of users, the same ones each time", () => {
  const first = chosenBy(alias({}));
  // 20 % of 4,000 is 800, give or take four standard deviations of 25.
  expect(Math.abs(first.length - 800)).toBeLessThan(100);
  expect(chosenBy(alias({}))).toEqual(first);
});

test("a larger share keeps the users that the smaller one had", () => {
  const some = new Set(chosenBy(alias({ percent: 5 })));
  const more = new Set(chosenBy(alias({ percent: 50 })));
  expect([...some].filter((user) => !more.has(user))).toEqual([]);
  expect(chosenBy(alias({ percent: 100 }))).toEqual(USERS);
});

test("another candidate meets other users first", () => {
  const one = new Set(chosenBy(alias({ percent: 10 })));
  const other = USERS.filter((user) => chooseModel(alias({ percent: 10, model: "v3" }), user).model === "v3");
  const both = other.filter((user) => one.has(user));
  expect(both.length).toBeLessThan(other.length / 2);
});

test("requests without a user fall one by one", () => {
  const chosen = Array.from({ length: 4000 }, () => chooseModel(alias({}), null).model === "v2");
  expect(Math.abs(chosen.filter(Boolean).length - 800)).toBeLessThan(150);
});

test("a shadow never answers the client", () => {
  const given = alias({ mode: "shadow", percent: 30 });
  const choices = USERS.map((user) => chooseModel(given, user));
  expect(choices.every(({ model }) => model === "v1")).toBe(true);
  const copied = choices.filter(({ shadow }) => shadow === "v2").length;
  expect(Math.abs(copied - 1200)).toBeLessThan(120);
});
