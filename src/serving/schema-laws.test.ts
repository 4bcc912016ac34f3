// Answers under random schemas, whatever a model would like to write: random tokens of a grammar end in JSON that ajv finds valid,
// and every valid value can be written.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Ajv } from "ajv";
import addFormats from "ajv-formats";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeTinyModel } from "../../scripts/make-tiny-model.ts";
import { randomRoot } from "../../test/random-schemas.ts";
import type { Schema } from "../../test/random-schemas.ts";
import { createTokenizer } from "../data/tokenizer.ts";
import type { Tokenizer } from "../data/tokenizer.ts";
import { openBaseModel } from "../model/base-model.ts";
import { createRandom } from "../random.ts";
import { schemaFault } from "../wire/json-schema.ts";
import type { AnswerForm } from "./answer-form.ts";
import { GrammarPool } from "./grammar.ts";
import type { GrammarRule } from "./grammar.ts";

let folder: string;
let tokenizer: Tokenizer;
let grammars: GrammarPool;
let stopId: number;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tunesmith-laws-"));
  await makeTinyModel(folder);
  const model = await openBaseModel(folder);
  tokenizer = createTokenizer(model.tokenizer);
  [stopId = 0] = tokenizer.eosTokenIds;
  grammars = new GrammarPool({ tokenizer, vocabSize: model.config.vocabSize, stopIds: new Set([stopId]) });
  await model.close();
});

afterAll(async () => {
  await rm(folder, { recursive: true });
});

const ajv = new Ajv({ strict: false });
addFormats.default(ajv);

function ruleOf(form: AnswerForm): GrammarRule {
  const [rule] = grammars.rules(form, 1);
  if (rule === undefined) throw new Error("no rule");
  return rule;
}

function allowedBy(rule: GrammarRule): Set<number> {
  const logits = new Float32Array(tokenizer.vocabSize);
  rule.apply(logits);
  return new Set([...logits.keys()].filter((id) => logits[id] === 0));
}

/** Tokens at random, soon only those that tend to lead to the end; null where none is found. */
function writeAnything(form: AnswerForm, seed: number): string | null {
  const rule = ruleOf(form);
  const random = createRandom(3, seed);
  const ids: number[] = [];
  const freeTokens = random.below(80);
  while (ids.length < 600) {
    const allowed = [...allowedBy(rule)];
    expect(allowed.length, tokenizer.decode(ids)).toBeGreaterThan(0);
    if (allowed.includes(stopId) && (ids.length > freeTokens || random.below(2) === 0))
      return tokenizer.decode(ids);
    const closing =
      ids.length < freeTokens ? [] : allowed.filter((id) => /^["}\]]/.test(tokenizer.decode([id])));
    const choice = closing.length > 0 && random.below(8) > 0 ? closing : allowed;
    const id = choice[random.below(choice.length)] ?? 0;
    if (id === stopId) return tokenizer.decode(ids);
    rule.accept(id);
    ids.push(id);
  }
  return null;
}

/** The first token of a text that a grammar does not let through, with the text before it; null where it takes all of it. */
function refusedIn(form: AnswerForm, text: string): string | null {
  const rule = ruleOf(form);
  let written = "";
  for (const id of [...tokenizer.encode(text), stopId]) {
    if (!allowedBy(rule).has(id)) return `${written}⟨${tokenizer.decode([id])}⟩`;
    rule.accept(id);
    written += tokenizer.decode([id]);
  }
  return null;
}

const COUNT = 120;

describe("under random schemas", () => {
  it("what ends is valid JSON", () => {
    let ended = 0;
    for (let seed = 0; seed < COUNT; seed++) {
      const { schema } = randomRoot(seed);
      expect([schemaFault(schema, { strict: false }), schema]).toEqual([null, schema]);
      const judge = ajv.compile(schema);
      for (let i = 0; i < 3; i++) {
        const text = writeAnything({ type: "json_schema", schema }, 10 * seed + i);
        if (text === null) continue;
        ended += 1;
        expect(() => void JSON.parse(text), `${JSON.stringify(schema)}\n${text}`).not.toThrow();
        const value: unknown = JSON.parse(text);
        expect(judge(value), `${JSON.stringify(schema)}\n${text}`).toBe(true);
      }
    }
    expect(ended).toBeGreaterThan(2 * COUNT);
  });

  it("every valid value can be written, compact or with a space after comma and colon", () => {
    for (let seed = 0; seed < COUNT; seed++) {
      const { schema, value } = randomRoot(seed);
      const judge = ajv.compile(schema);
      for (let i = 0; i < 3; i++) {
        const sample = value(createRandom(5, seed, i));
        expect(judge(sample), `${JSON.stringify(schema)} ${JSON.stringify(sample)}`).toBe(true);
        for (const text of [JSON.stringify(sample), spaced(sample)])
          expect([schema, refusedIn({ type: "json_schema", schema }, text)]).toEqual([schema, null]);
      }
    }
  });
});

/** As Python's json.dumps writes it, but for escapes. */
function spaced(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(spaced).join(", ")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  const members = Object.entries(value).map(([name, each]) => `${JSON.stringify(name)}: ${spaced(each)}`);
  return `{${members.join(", ")}}`;
}

/** Schemas, each with texts that are JSON but not valid, or not JSON at all. */
const REFUSED: [name: string, schema: Schema, texts: string[]][] = [
  ["an integer's sign alone", { type: "integer", minimum: -60 }, ["-", "-61", "-0", "1.0"]],
  [
    "integers beyond their bounds",
    { type: "integer", minimum: 0, maximum: 120 },
    ["-1", "121", "122", "130"],
  ],
  [
    "raw control characters and quotes",
    { type: "string", pattern: "^.+$" },
    ['"""', '"\u0001"', '"\\"', '""'],
  ],
  ["a pattern's half", { type: "string", pattern: "yes|no" }, ['"yes', '"ye"', "yes"]],
  ["characters that are not of a class", { type: "string", pattern: "^[é-ü]$" }, ['"e"', '"à"', '"\u0001"']],
  [
    "too many characters, however they are spelled",
    { type: "string", maxLength: 1 },
    ['"\\ud83d\\ude00a"', '"éé"'],
  ],
  ["half a pair of surrogates", { type: "string" }, ['"\\ud83d"', '"\\ude00"', '"\\ud83d\\u0041"']],
  ["numbers that are infinite", { type: "number" }, ["1e999", "-1e308"]],
  [
    "days that do not exist",
    { type: "string", format: "date" },
    ['"2023-02-29"', '"2023-04-31"', '"1900-02-29"'],
  ],
];

describe("a grammar refuses", () => {
  it.each(REFUSED)("%s", (_name, schema, texts) => {
    const root = { type: "object", properties: { a: schema }, required: ["a"], additionalProperties: false };
    expect(schemaFault(root, { strict: true })).toBe(null);
    for (const text of texts)
      expect([text, refusedIn({ type: "json_schema", schema: root }, `{"a":${text}}`)]).not.toEqual([
        text,
        null,
      ]);
  });

  it("a declared name as another one, in any spelling", () => {
    const schema = {
      type: "object",
      properties: { name: { type: "integer" }, "": { type: "integer" } },
      additionalProperties: { type: "boolean" },
    };
    for (const text of [
      '{"name":1,"name":true}',
      '{"n\\u0061me":true}',
      '{"":true}',
      '{"other":true,"name":1}',
    ])
      expect([text, refusedIn({ type: "json_schema", schema }, text)]).not.toEqual([text, null]);
    for (const text of ['{"name":1,"names":true}', '{"":1,"na":true}', '{"Name":false}'])
      expect(refusedIn({ type: "json_schema", schema }, text)).toBe(null);
  });
});

it("long answers and many ways leave the memory of a grammar bounded, and their rules intact", () => {
  const schema = {
    type: "object",
    properties: { a: { type: "array", maxItems: 300, items: { type: "string", maxLength: 20_000 } } },
    required: ["a"],
    additionalProperties: false,
  };
  const text = JSON.stringify({ a: ["x".repeat(19_999) + "é", ...Array.from({ length: 299 }, () => "y")] });
  expect(refusedIn({ type: "json_schema", schema }, text)).toBe(null);
  expect(refusedIn({ type: "json_schema", schema }, text.replace("é", "éé"))).not.toBe(null);
  expect(refusedIn({ type: "json_schema", schema }, text.replace("]}", ',"z"]}'))).not.toBe(null);
});
