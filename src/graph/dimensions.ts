// Dimensions of a tensor: a number, or a named size that is only known when a graph runs. Products of named sizes are
// written as canonical monomials ("3*B*T"), so that two spellings of the same size are the same string.

/** A size: a positive integer, a name ("T") or a canonical product ("3*B*T"). */
export type Dimension = number | string;
export type Shape = readonly Dimension[];

interface Monomial {
  coefficient: number;
  /** Sorted, with repeats. */
  names: string[];
}

function parse(dimension: Dimension): Monomial {
  if (typeof dimension === "number") return { coefficient: dimension, names: [] };
  const monomial: Monomial = { coefficient: 1, names: [] };
  for (const factor of dimension.split("*")) {
    if (/^\d+$/.test(factor)) monomial.coefficient *= Number(factor);
    else monomial.names.push(factor);
  }
  monomial.names.sort();
  return monomial;
}

function format({ coefficient, names }: Monomial): Dimension {
  if (coefficient === 0 || names.length === 0) return coefficient;
  return [...(coefficient === 1 ? [] : [String(coefficient)]), ...names].join("*");
}

/** The product of sizes in canonical form; of none, 1. */
export function product(dimensions: Shape): Dimension {
  const total: Monomial = { coefficient: 1, names: [] };
  for (const dimension of dimensions) {
    const factor = parse(dimension);
    total.coefficient *= factor.coefficient;
    total.names.push(...factor.names);
  }
  total.names.sort();
  return format(total);
}

/** `whole / part`, or null where `part` does not divide `whole` for every value of the names. */
export function quotient(whole: Dimension, part: Dimension): Dimension | null {
  const dividend = parse(whole);
  const divisor = parse(part);
  if (divisor.coefficient === 0 || dividend.coefficient % divisor.coefficient !== 0) return null;
  const names = [...dividend.names];
  for (const name of divisor.names) {
    const at = names.indexOf(name);
    if (at < 0) return null;
    names.splice(at, 1);
  }
  return format({ coefficient: dividend.coefficient / divisor.coefficient, names });
}

/**
 * The size of parts laid end to end: a number, a multiple of the name they share, or, for different plain names, a name of
 * its own ("S+T"). Null for sums that could be read in two ways.
 */
export function total(parts: Shape): Dimension | null {
  if (parts.every((part) => typeof part === "number")) return parts.reduce((sum, part) => sum + part, 0);
  if (parts.every((part) => part === parts[0])) return product([parts.length, ...parts.slice(0, 1)]);
  return parts.some((part) => typeof part === "number" || part.includes("*")) ? null : parts.join("+");
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
