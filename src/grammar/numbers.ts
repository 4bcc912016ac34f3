// The numbers that answers may hold, as patterns over their digits: integers within bounds, and decimal numbers. None is so long
// that a reader in double precision would get another number or infinity.

/** Integers without a bound on one side have at most 15 digits there: all of those are exact in double precision. */
const MOST_DIGITS = 15;
const LARGEST_USUAL = 10 ** MOST_DIGITS - 1;

/** Any number: up to 15 digits before the point, 17 after it (no double needs more) and two of an exponent. */
export const NUMBER_PATTERN = String.raw`^-?(?:0|[1-9]\d{0,14})(?:\.\d{1,17})?(?:[eE][+-]?\d{1,2})?$`;

/** Safe integers from `least` to `most`, both included; null is no bound. */
export function integerPattern(least: number | null, most: number | null): string {
  const low = least ?? (most !== null && most < -LARGEST_USUAL ? Number.MIN_SAFE_INTEGER : -LARGEST_USUAL);
  const high = most ?? (least !== null && least > LARGEST_USUAL ? Number.MAX_SAFE_INTEGER : LARGEST_USUAL);
  const options: string[] = [];
  // Zero has no sign.
  if (low < 0) options.push(...naturals(Math.max(1, -high), -low).map((digits) => `-${digits}`));
  if (high >= 0) options.push(...naturals(Math.max(0, low), high));
  return `^(?:${options.join("|")})$`;
}

/** Patterns of the digits of all whole numbers from `low`, at least 0, to `high`. */
function naturals(low: number, high: number): string[] {
  const patterns: string[] = [];
  for (let length = String(low).length; length <= String(high).length; length++) {
    const first = length === 1 ? 0 : 10 ** (length - 1);
    const last = 10 ** length - 1;
    if (low > last || high < first) continue;
    patterns.push(...alike(String(Math.max(low, first)), String(Math.min(high, last))));
  }
  return patterns;
}

/** The same for numbers of as many digits each. */
function alike(low: string, high: string): string[] {
  const [a = "", ...lowRest] = low;
  const [b = "", ...highRest] = high;
  if (lowRest.length === 0) return [digit(a, b)];
  const rest = `\\d{${lowRest.length}}`;
  const isWholeLow = lowRest.every((each) => each === "0");
  const isWholeHigh = highRest.every((each) => each === "9");
  if (a === b) {
    if (isWholeLow && isWholeHigh) return [a + rest];
    return alike(lowRest.join(""), highRest.join("")).map((each) => a + each);
  }
  const patterns: string[] = [];
  if (!isWholeLow)
    patterns.push(...alike(lowRest.join(""), "9".repeat(lowRest.length)).map((each) => a + each));
  const from = isWholeLow ? Number(a) : Number(a) + 1;
  const to = isWholeHigh ? Number(b) : Number(b) - 1;
  if (from <= to) patterns.push(digit(String(from), String(to)) + rest);
  if (!isWholeHigh)
    patterns.push(...alike("0".repeat(highRest.length), highRest.join("")).map((each) => b + each));
  return patterns;
}

function digit(first: string, last: string): string {
  return first === last ? first : `[${first}-${last}]`;
}
