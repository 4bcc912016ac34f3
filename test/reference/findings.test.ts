// The data check's rules are written for speed. What they find stays what their first, plain versions found: on the examples, on data
// nobody here wrote (skipped where it does not lie beside the repository), and on made-up rows with every oddity in them.
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { checkFiles } from "../../src/data/preflight/check-files.ts";
import { createRandom } from "../../src/random.ts";

const ROOT = join(import.meta.dirname, "../..");
const SHARED = join(ROOT, "../shared/data");

let folder: string;
let expected: Record<string, unknown>;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "findings-"));
  expected = JSON.parse(await readFile(join(ROOT, "test/goldens/findings.json"), "utf8")) as typeof expected;
});
afterAll(() => rm(folder, { recursive: true }));

async function found(trainingFile: string, validationFile?: string) {
  const { findings, faultCount } = await checkFiles({ trainingFile, validationFile });
  const shown = findings.map(({ kind, file, count, places }) => ({ kind, file, count, places }));
  return { faultCount, findings: shown };
}

test.each(["ticket-triage", "taco-bot"])("examples/%s", async (name) => {
  const path = (file: string) => join(ROOT, "examples", name, file);
  expect(await found(path("train.jsonl"), path("held-out.jsonl"))).toEqual(expected[name]);
});

test.skipIf(!existsSync(SHARED)).each(["mix/mix-1000.jsonl", "jailbreak/dan.jsonl"])(
  "data/%s",
  async (name) => {
    expect(await found(join(SHARED, name))).toEqual(expected[name]);
  },
);

test("made-up rows", async () => {
  const [training, validation] = [join(folder, "training.jsonl"), join(folder, "validation.jsonl")];
  await writeFile(training, madeUp(1, 1500));
  await writeFile(validation, madeUp(1, 60) + madeUp(2, 60));
  expect(await found(training, validation)).toEqual(expected["made up"]);
});

const ENGLISH =
  "the and of to that is with for you are this it was not have be table river cloud paper garden Straße Ⅷ ➁";
const GERMAN = "der die das und ist nicht mit ein eine zu von auf dem den sich für ich wird Haus Garten";
const RUSSIAN = "это не что как его для они было только меня река дом";
const SPACES = [" ", " ", " ", " ", " ", " ", "  ", "\n", "\t", "\u00a0", " \n "];

/** Chats in several languages and forms, some of them copies or near copies of earlier ones. */
function madeUp(seed: number, count: number): string {
  const random = createRandom(seed);
  const pick = <T>(list: readonly T[]): T => list[random.below(list.length)] as T;
  const words = (text: string, length: number): string => {
    const all = text.split(" ");
    return Array.from({ length }, () => pick(all) + pick(SPACES)).join("");
  };
  const forms = [
    ...Array.from({ length: 30 }, () => () => words(ENGLISH, 20 + random.below(50))),
    () => words(GERMAN, 30),
    () => words(RUSSIAN, 25),
    () => "これは日本語の文章です。カタカナも漢字も少し混ぜる",
    () => JSON.stringify({ a: count, b: pick([1, "x", null]), [`k${random.below(3)}`]: '"\\' }),
    () => pick(["yes", "no", "  ", "", "Yes.", "maybe  so"]),
  ];
  const chats: { question: string; answer: string }[] = [];
  for (let i = 0; i < count; i++) {
    const earlier = i > 0 && random.below(8) === 0 ? pick(chats) : null;
    const question = earlier?.question ?? `${words(ENGLISH, 10 + random.below(40))} ${i}`;
    const copied = earlier === null ? null : pick([earlier.answer, `${earlier.answer} again`, "no"]);
    chats.push({ question, answer: copied ?? pick(forms)() });
  }
  return chats
    .map(({ question, answer }) => {
      const system = random.below(60) === 0 ? "You  are helpful" : "You are helpful.";
      const messages = [
        ...(random.below(20) === 0 ? [] : [{ role: "system", content: system }]),
        { role: "user", content: question },
        { role: "assistant", content: answer },
      ];
      return `${JSON.stringify({ messages })}\n`;
    })
    .join("");
}
