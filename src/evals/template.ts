// Templates: {{ item.path }} and {{ sample.path }} in a text, with nested names, [0] and ["name"]. Text between them and
// single braces stay as they are; an opening pair that is never closed is a fault. It knows no grader.
import { InvalidRequest } from "../errors.ts";
import { GradingFault } from "./grading-fault.ts";
import type { GradingContext } from "./sample.ts";

const NAMESPACES = ["item", "sample"] as const;
type Namespace = (typeof NAMESPACES)[number];

interface Variable {
  /** As written, for messages. */
  text: string;
  namespace: Namespace;
  path: readonly (string | number)[];
}
export type Template = readonly (string | Variable)[];

/** A filled-in text: a long document in a prompt, and far from what exhausts memory when a template repeats it. */
export const MAX_FILLED_CHARACTERS = 1024 * 1024;

/** .name, [0], ["name"] or ['name']; a name after a dot ends at white space and brackets. */
const STEP = /\.([^\s.[\]{}"']+)|\[(\d{1,9})\]|\["([^"]*)"\]|\['([^']*)'\]/y;

/** Throws GradingFault (invalid_variable_error) that names the first bad variable. */
export function parseTemplate(text: string): Template {
  const parts: (string | Variable)[] = [];
  let at = 0;
  while (at < text.length) {
    const open = text.indexOf("{{", at);
    const close = open === -1 ? -1 : text.indexOf("}}", open);
    if (open === -1) break;
    if (close === -1) {
      throw new GradingFault(
        "invalid_variable_error",
        `Expected '}}' behind every '{{', but got '${brief(text.slice(open))}', which is never closed. Close it, as in {{ item.name }}.`,
      );
    }
    if (open > at) parts.push(text.slice(at, open));
    parts.push(parseVariable(text.slice(open + 2, close).trim()));
    at = close + 2;
  }
  if (at < text.length) parts.push(text.slice(at));
  return parts;
}

function parseVariable(text: string): Variable {
  const namespace = NAMESPACES.find(
    (name) => text.startsWith(name) && ".[".includes(text.charAt(name.length)),
  );
  const bad = (): GradingFault =>
    new GradingFault(
      "invalid_variable_error",
      `Expected a variable such as {{ item.name }} or {{ sample.output_text }}, but got {{ ${brief(text)} }}. Only 'item' and 'sample' can be named, with .name, [0] or ["name"] behind them.`,
    );
  if (namespace === undefined || text.length === namespace.length) throw bad();
  const path: (string | number)[] = [];
  STEP.lastIndex = namespace.length;
  while (STEP.lastIndex < text.length) {
    const step = STEP.exec(text);
    if (step === null) throw bad();
    const [, name, index, quoted, singleQuoted] = step;
    path.push(index === undefined ? (name ?? quoted ?? singleQuoted ?? "") : Number(index));
  }
  return { text, namespace, path };
}

/**
 * The text with every variable's value in place: texts as they are, all other values as JSON. Throws GradingFault for a value
 * that is not there, InvalidRequest past the limit.
 */
export function fillTemplate(template: Template, context: GradingContext): string {
  let filled = "";
  for (const part of template) {
    filled += typeof part === "string" ? part : valueText(lookUp(part, context));
    if (filled.length > MAX_FILLED_CHARACTERS) {
      throw new InvalidRequest(
        `A template of the grader becomes too long once it is filled in: expected at most ${MAX_FILLED_CHARACTERS} characters. Send a shorter 'model_sample' or 'item', or name only a part of them.`,
        { code: "string_above_max_length" },
      );
    }
  }
  return filled;
}

function lookUp({ text, namespace, path }: Variable, context: GradingContext): unknown {
  if (namespace === "sample" && path[0] === "output_json" && context.sample.output_json === undefined) {
    throw new GradingFault(
      "sample_parse_error",
      `{{ ${brief(text)} }} needs the sample to be JSON, and it is none.`,
    );
  }
  let value: unknown = context[namespace];
  for (const step of path) {
    value = memberOf(value, step);
    if (value === undefined) {
      throw new GradingFault(
        "invalid_variable_error",
        `{{ ${brief(text)} }} leads nowhere: there is no '${brief(String(step))}'.`,
      );
    }
  }
  return value;
}

/** Own members only: what JavaScript objects inherit is nobody's data. */
function memberOf(holder: unknown, step: string | number): unknown {
  if (Array.isArray(holder)) return /^\d+$/.test(String(step)) ? holder[Number(step)] : undefined;
  if (typeof holder !== "object" || holder === null || !Object.hasOwn(holder, step)) return undefined;
  return (holder as Record<string, unknown>)[step];
}

const valueText = (value: unknown) => (typeof value === "string" ? value : JSON.stringify(value));

/** A stretch of the client's text short enough for a message. */
const brief = (text: string) => (text.length <= 80 ? text : `${text.slice(0, 77)}...`);
