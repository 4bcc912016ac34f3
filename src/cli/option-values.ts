// Values of options of the command line: a text becomes what the option holds, or commander says what it expected. What the values may be
// beyond being numbers is the server's to say.
import { InvalidArgumentError } from "commander";

export function integer(min = Number.MIN_SAFE_INTEGER, max = Number.MAX_SAFE_INTEGER) {
  return (text: string): number => {
    const value = Number(text);
    if (!/^-?[0-9]+$/.test(text) || value < min || value > max) {
      const lower = min === Number.MIN_SAFE_INTEGER ? "" : ` from ${min}`;
      const upper = max === Number.MAX_SAFE_INTEGER ? "" : ` to ${max}`;
      throw new InvalidArgumentError(`Expected a whole number${lower}${upper}.`);
    }
    return value;
  };
}

export function decimal(text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !Number.isFinite(value)) throw new InvalidArgumentError("Expected a number.");
  return value;
}

export function integerOrAuto(text: string): number | "auto" {
  return text === "auto" ? "auto" : integer(1)(text);
}

export function decimalOrAuto(text: string): number | "auto" {
  return text === "auto" ? "auto" : decimal(text);
}

export function list(text: string): string[] {
  return text
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "");
}

/** Of an option that may be given again and again. */
export function repeated(text: string, earlier: string[] = []): string[] {
  return [...earlier, text];
}

export function keyValue(text: string, earlier: Record<string, string> = {}): Record<string, string> {
  const equals = text.indexOf("=");
  if (equals < 1) throw new InvalidArgumentError("Expected key=value.");
  return { ...earlier, [text.slice(0, equals)]: text.slice(equals + 1) };
}
