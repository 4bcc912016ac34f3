// What an answer must be - JSON, calls of tools, or either - as a grammar over bytes. It knows no tokens.
import type { ToolCallShape } from "../data/tool-calls.ts";
import { JsonGrammar } from "../grammar/json-grammar.ts";
import { ProgramBuilder } from "../grammar/program.ts";
import type { ByteEdge, Program } from "../grammar/program.ts";

/** JSON that an answer must be. */
export type JsonForm =
  /** Any JSON object. */
  { type: "json_object" } | { type: "json_schema"; schema: Record<string, unknown> };

/** What an answer must be. */
export type AnswerForm =
  | JsonForm
  | {
      type: "tools";
      shape: ToolCallShape;
      /** Functions that may be called, each with its arguments' schema. */
      tools: readonly { name: string; parameters: Record<string, unknown> }[];
      /** Nothing but calls, and at least one. */
      forced: boolean;
      /** Whether more than one call may be made. */
      parallel: boolean;
      /** What an answer that calls nothing must be; null: any text. */
      otherwise: JsonForm | null;
    };

/** White space in a row between two parts of any JSON object: enough to indent, not enough to fill an answer with. */
const MAX_WHITESPACE = 16;

/** The same where there is a schema, and in arguments: compact JSON and that of ", " and ": " are both in, wasted tokens are not. */
const MAX_SCHEMA_WHITESPACE = 1;

const ANY_OBJECT = { type: "object" };

export function answerProgram(form: AnswerForm): Program {
  const builder = new ProgramBuilder();
  return builder.program(
    form.type === "tools" ? toolAnswer(form, builder) : jsonText(form, builder, builder.end),
  );
}

function jsonText(form: JsonForm, builder: ProgramBuilder, next: number): number {
  const grammar =
    form.type === "json_schema"
      ? new JsonGrammar(builder, form.schema, MAX_SCHEMA_WHITESPACE)
      : new JsonGrammar(builder, ANY_OBJECT, MAX_WHITESPACE);
  return grammar.text(next);
}

function toolAnswer(
  { shape, tools, forced, parallel, otherwise }: Extract<AnswerForm, { type: "tools" }>,
  builder: ProgramBuilder,
): number {
  /** Where a call begins from the given character of its text on. */
  const call = (from: number, next: number): number =>
    builder.choice(
      tools.map(({ name, parameters }) => {
        const args = new JsonGrammar(builder, parameters, MAX_SCHEMA_WHITESPACE);
        const head = (shape.begin + name + shape.middle).slice(from);
        return builder.literal(head, args.text(builder.literal(shape.end, next)));
      }),
    );
  if (!forced && otherwise === null) return freeText(shape, parallel, builder, call);
  let calls: number;
  if (parallel) {
    const { at, fill } = builder.reserve();
    calls = call(0, at);
    fill(builder.choice([builder.end, builder.literal("\n", calls)]));
  } else calls = call(0, builder.end);
  if (forced || otherwise === null) return calls;
  return builder.choice([calls, jsonText(otherwise, builder, builder.end)]);
}

/** Any text, in which the trigger is always the beginning of a call. */
function freeText(
  { trigger }: ToolCallShape,
  parallel: boolean,
  builder: ProgramBuilder,
  call: (from: number, next: number) => number,
): number {
  const text = [...new TextEncoder().encode(trigger)];
  const places = text.map(() => builder.reserve());
  const start = places[0]?.at ?? builder.end;
  const called = call(trigger.length, parallel ? start : builder.end);
  for (const [length, { fill }] of places.entries()) {
    const edges = Array.from({ length: 256 }, (_, byte): ByteEdge => {
      const seen = [...text.slice(0, length), byte];
      // The longest end of what was seen that begins the trigger.
      while (seen.some((each, i) => each !== text[i])) seen.shift();
      return [byte, byte, seen.length === text.length ? called : (places[seen.length]?.at ?? start)];
    });
    fill(builder.choice([builder.end, builder.bytes(edges)]));
  }
  return start;
}
