// What the text of a setting may be: each takes it as it stands in the environment, gives the value, or throws an Expected.

/** What a parser wanted instead. */
export class Expected extends Error {}

export function filledText(text: string): string {
  if (text.trim() === "") throw new Expected("a value");
  return text.trim();
}

export function wholeNumber(min: number, max: number) {
  return (text: string): number => {
    const value = /^[0-9]{1,16}$/.test(text.trim()) ? Number(text) : NaN;
    if (!(value >= min && value <= max)) throw new Expected(`a whole number from ${min} to ${max}`);
    return value;
  };
}

export function matching(pattern: RegExp, words: string) {
  return (text: string): string => {
    if (!pattern.test(text)) throw new Expected(words);
    return text;
  };
}

export function oneOf<const T extends readonly string[]>(choices: T) {
  return (text: string): T[number] => {
    const choice = choices.find((each) => each === text);
    if (choice === undefined) throw new Expected(`one of ${choices.join(", ")}`);
    return choice;
  };
}

export function httpUrl(text: string): string {
  if (!URL.canParse(text) || !["http:", "https:"].includes(new URL(text).protocol)) {
    throw new Expected("an http or https address");
  }
  return text.replace(/\/+$/, "");
}

/** As browsers send them, so that they can be compared as texts. */
export function originList(text: string): readonly string[] {
  const origins = text
    .split(",")
    .map((origin) => origin.trim())
    .filter((origin) => origin !== "");
  const isOrigin = (text: string) => URL.canParse(text) && new URL(text).origin === text;
  if (!origins.every((origin) => origin === "*" || isOrigin(origin))) {
    throw new Expected("origins such as https://app.example.com, without a path, separated by commas, or *");
  }
  return origins;
}

/** Short keys can be guessed; a header cannot carry spaces or control characters. */
export function apiKeyList(text: string): readonly string[] {
  const keys = text.split(",").map((key) => key.trim());
  const given = keys.filter((key) => key !== "");
  if (given.some((key) => !/^[\x21-\x7e]{8,}$/.test(key))) {
    throw new Expected("keys of at least 8 visible ASCII characters, separated by commas");
  }
  return given;
}
