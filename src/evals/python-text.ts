// Text as the reference packages see it: Python's idea of white space, of word characters and of a string's length, where
// JavaScript's differs. It knows no metric.

/** What Python's str.split() splits at: unlike \s with the separators 1C to 1F and 85, without the byte order mark. */
const WHITE_SPACE = /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/u;

/** Words between white space; no empty ones. */
export function splitWords(text: string): string[] {
  return text.split(WHITE_SPACE).filter((word) => word !== "");
}

/** All but letters and numbers: combining marks and the underscore are not part of a word. */
const NO_WORD_CHARACTER = /[^\p{L}\p{N}]/gu;

/**
 * Lower case, with every character that belongs to no word as a space, as rapidfuzz's default_process; its letters end with
 * Unicode 13, those here with the Unicode of Node.js.
 */
export function wordsOnly(text: string): string {
  return Array.from(text.replaceAll(NO_WORD_CHARACTER, " ").trim(), lowerCharacter).join("");
}

/**
 * A character in lower case by itself, so that one stays one: of whole texts, JavaScript writes an İ as two and a Σ at the end of
 * a word as another letter.
 */
function lowerCharacter(character: string): string {
  const [first = ""] = character.toLowerCase();
  return first;
}

/** A text's characters as Python counts them: code points, not UTF-16 units. */
export function codePoints(text: string): number[] {
  return Array.from(text, (character) => character.codePointAt(0) ?? 0);
}

/** Orders texts by code points, as Python's sorted(); JavaScript's order of UTF-16 units differs beyond FFFF. */
export function byCodePoints(first: string, second: string): number {
  const [a, b] = [codePoints(first), codePoints(second)];
  for (let i = 0; i < a.length && i < b.length; i++) {
    const difference = (a[i] ?? 0) - (b[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return a.length - b.length;
}
