// The expression language of multi graders' calculate_output: numbers, the graders' names, + - * / ^, parentheses and a few
// functions. ^ binds closest and to the right, before a sign: -2^2 is -4. It knows no grader.
import { GradingFault } from "./grading-fault.ts";

/** Computes the formula; every variable it names must be there. */
export type Formula = (values: Readonly<Record<string, number>>) => number;

interface FunctionRule {
  /** Fewest and most arguments. */
  arity: readonly [number, number];
  compute: (...values: number[]) => number;
}

const FUNCTIONS: Readonly<Record<string, FunctionRule>> = {
  min: { arity: [1, Infinity], compute: Math.min },
  max: { arity: [1, Infinity], compute: Math.max },
  abs: { arity: [1, 1], compute: Math.abs },
  floor: { arity: [1, 1], compute: Math.floor },
  ceil: { arity: [1, 1], compute: Math.ceil },
  exp: { arity: [1, 1], compute: Math.exp },
  sqrt: { arity: [1, 1], compute: Math.sqrt },
  /** The natural one. */
  log: { arity: [1, 1], compute: Math.log },
};

/** Parentheses, calls, signs and powers inside each other: far more than a person writes, far less than the stack holds. */
export const MAX_FORMULA_DEPTH = 100;

const TOKEN = /\s*(?:((?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|([A-Za-z_][A-Za-z0-9_]*)|([-+*/^(),]))/y;

/**
 * Reads a formula over these variables. Throws GradingFault: formula_parse_error for what is no formula,
 * invalid_variable_error for a name that is no grader.
 */
export function parseFormula(text: string, variables: readonly string[]): Formula {
  return new Parser(text, new Set(variables)).parse();
}

class Parser {
  readonly #text: string;
  readonly #variables: ReadonlySet<string>;
  /** The token being looked at; empty at the end. */
  #token = "";
  #tokenAt = 0;
  #depth = 0;

  constructor(text: string, variables: ReadonlySet<string>) {
    this.#text = text;
    this.#variables = variables;
    this.#advance();
  }

  parse(): Formula {
    const formula = this.#sum();
    if (this.#token !== "") throw this.#fault("an operator or the end");
    return formula;
  }

  #sum(): Formula {
    let left = this.#product();
    for (;;) {
      const [before, operator] = [left, this.#token];
      if (operator !== "+" && operator !== "-") return left;
      this.#advance();
      const right = this.#product();
      left =
        operator === "+"
          ? (values) => before(values) + right(values)
          : (values) => before(values) - right(values);
    }
  }

  #product(): Formula {
    let left = this.#signed();
    for (;;) {
      const [before, operator] = [left, this.#token];
      if (operator !== "*" && operator !== "/") return left;
      this.#advance();
      const right = this.#signed();
      left =
        operator === "*"
          ? (values) => before(values) * right(values)
          : (values) => before(values) / right(values);
    }
  }

  #signed(): Formula {
    return this.#deeper(() => {
      const sign = this.#token;
      if (sign !== "-" && sign !== "+") return this.#power();
      this.#advance();
      const operand = this.#signed();
      return sign === "-" ? (values) => -operand(values) : operand;
    });
  }

  #power(): Formula {
    const base = this.#primary();
    if (this.#token !== "^") return base;
    this.#advance();
    const exponent = this.#signed();
    return (values) => base(values) ** exponent(values);
  }

  #primary(): Formula {
    const token = this.#token;
    if (/^[\d.]/.test(token)) {
      const value = Number(token);
      this.#advance();
      return () => value;
    }
    if (/^[A-Za-z_]/.test(token)) {
      const at = this.#tokenAt;
      this.#advance();
      return this.#token === "(" ? this.#call(token, at) : this.#variable(token);
    }
    if (token !== "(") throw this.#fault("a number, a grader's name, a function or '('");
    this.#advance();
    const inner = this.#sum();
    this.#expect(")");
    return inner;
  }

  #variable(name: string): Formula {
    if (!this.#variables.has(name)) {
      throw new GradingFault(
        "invalid_variable_error",
        `'calculate_output' names '${name.slice(0, 80)}', which is none of the graders: ${[...this.#variables].join(", ")}.`,
      );
    }
    return (values) => values[name] ?? NaN;
  }

  #call(name: string, at: number): Formula {
    const rule = Object.hasOwn(FUNCTIONS, name) ? FUNCTIONS[name] : undefined;
    if (rule === undefined) {
      this.#tokenAt = at;
      this.#token = name;
      throw this.#fault(`one of the functions ${Object.keys(FUNCTIONS).join(", ")}`);
    }
    const operands: Formula[] = [];
    do {
      this.#advance(); // "(" or ","
      operands.push(this.#sum());
    } while (this.#token === ",");
    const [fewest, most] = rule.arity;
    if (operands.length < fewest || operands.length > most) {
      throw new GradingFault(
        "formula_parse_error",
        `'calculate_output' gives ${name} ${operands.length} values; expected ${most === 1 ? "one" : "at least one"}.`,
      );
    }
    this.#expect(")");
    return (values) => rule.compute(...operands.map((operand) => operand(values)));
  }

  #deeper(read: () => Formula): Formula {
    if (++this.#depth > MAX_FORMULA_DEPTH) {
      throw new GradingFault(
        "formula_parse_error",
        `'calculate_output' nests deeper than ${MAX_FORMULA_DEPTH} levels. Write it flatter.`,
      );
    }
    const formula = read();
    this.#depth -= 1;
    return formula;
  }

  #expect(token: string): void {
    if (this.#token !== token) throw this.#fault(`'${token}'`);
    this.#advance();
  }

  #advance(): void {
    const from = this.#tokenAt + this.#token.length;
    TOKEN.lastIndex = from;
    const match = TOKEN.exec(this.#text);
    const found = match?.[1] ?? match?.[2] ?? match?.[3];
    const rest = this.#text.slice(from).trimStart();
    // A character that belongs to no token becomes one, for the message to name.
    this.#token = found ?? rest.slice(0, 1);
    this.#tokenAt = found === undefined ? this.#text.length - rest.length : TOKEN.lastIndex - found.length;
  }

  #fault(expected: string): GradingFault {
    const got = this.#token === "" ? "it ends" : `got '${this.#token.slice(0, 80)}'`;
    return new GradingFault(
      "formula_parse_error",
      `'calculate_output' is no formula: expected ${expected} at character ${this.#tokenAt + 1}, but ${got}.`,
    );
  }
}
