// Dimensions of a tensor: a number, or a named size that is only known when a graph runs. Sums of products of named sizes are
// written as canonical polynomials ("3*B*T", "C+4*U"), so that two spellings of the same size are the same string.

/** A size: a positive integer, a name ("T") or a canonical polynomial of names ("3*B*T", "C+4*U"). */
export type Dimension = number | string;
export type Shape = readonly Dimension[];

/** Coefficients by sorted names joined by "*"; "" for the part without a name. */
type Polynomial = ReadonlyMap<string, number>;

function parse(dimension: Dimension): Polynomial {
  if (typeof dimension === "number") return collect([["", dimension]]);
  return collect(
    dimension.split("+").map((term) => {
      const factors = term.split("*");
      const numbers = factors.filter((factor) => /^\d+$/.test(factor));
      const names = factors.filter((factor) => !/^\d+$/.test(factor));
      return [names.sort().join("*"), numbers.reduce((all, one) => all * Number(one), 1)];
    }),
  );
}

/** Adds up like terms and drops those that are zero. */
function collect(terms: readonly (readonly [names: string, coefficient: number])[]): Polynomial {
  const sum = new Map<string, number>();
  for (const [names, coefficient] of terms) sum.set(names, (sum.get(names) ?? 0) + coefficient);
  return new Map([...sum].filter(([, coefficient]) => coefficient !== 0));
}

function format(polynomial: Polynomial): Dimension {
  const terms = [...polynomial].sort(([a], [b]) => (a < b ? -1 : 1));
  const [first, ...others] = terms;
  if (first === undefined) return 0;
  if (others.length === 0 && first[0] === "") return first[1];
  return terms
    .map(([names, coefficient]) =>
      names === "" ? String(coefficient) : coefficient === 1 ? names : `${coefficient}*${names}`,
    )
    .join("+");
}

const namesOf = (term: string): string[] => (term === "" ? [] : term.split("*"));

/** The product of sizes in canonical form; of none, 1. */
export function product(dimensions: Shape): Dimension {
  const all = dimensions
    .map(parse)
    .reduce<Polynomial>(
      (left, right) =>
        collect(
          [...left].flatMap(([a, x]) =>
            [...right].map(([b, y]) => [[...namesOf(a), ...namesOf(b)].sort().join("*"), x * y] as const),
          ),
        ),
      new Map([["", 1]]),
    );
  return format(all);
}

/**
 * `whole / part`, or null where `part` does not divide `whole` for every value of the names. Of a part that is itself a sum, only
 * the whole is known to be a multiple.
 */
export function quotient(whole: Dimension, part: Dimension): Dimension | null {
  const [dividend, divisor] = [parse(whole), parse(part)];
  if (divisor.size !== 1) return divisor.size > 1 && format(dividend) === format(divisor) ? 1 : null;
  const [[divisorNames, divisorCoefficient]] = [...divisor] as [[string, number]];
  const terms: [string, number][] = [];
  for (const [term, coefficient] of dividend) {
    if (coefficient % divisorCoefficient !== 0) return null;
    const names = namesOf(term);
    for (const name of namesOf(divisorNames)) {
      const at = names.indexOf(name);
      if (at < 0) return null;
      names.splice(at, 1);
    }
    terms.push([names.join("*"), coefficient / divisorCoefficient]);
  }
  return format(collect(terms));
}

/** The size of parts laid end to end, in canonical form. */
export function total(parts: Shape): Dimension {
  return format(collect(parts.flatMap((part) => [...parse(part)])));
}

/** True where both shapes have the same rank and the same sizes. */
export function sameShape(left: Shape, right: Shape): boolean {
  return left.length === right.length && left.every((dimension, i) => dimension === right[i]);
}

/** NumPy broadcasting; null where the shapes do not fit. A named size only broadcasts with itself and with 1. */
export function broadcast(left: Shape, right: Shape): Shape | null {
  const rank = Math.max(left.length, right.length);
  const result: Dimension[] = [];
  for (let i = 0; i < rank; i++) {
    const a = left[left.length - rank + i] ?? 1;
    const b = right[right.length - rank + i] ?? 1;
    if (a !== b && a !== 1 && b !== 1) return null;
    result.push(a === 1 ? b : a);
  }
  return result;
}

/** `[B, T, 64]`, for messages and printed graphs. */
export function formatShape(shape: Shape): string {
  return `[${shape.join(", ")}]`;
}
