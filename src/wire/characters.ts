// Lengths of texts as this protocol, JSON schema and zod count them: in characters (code points), of which some are two units of
// a JavaScript string. A limit in units would refuse half of an emoji's worth, and a cut between two units leaves no character.

/** How many characters a text has; half of a surrogate pair counts as one. */
export function characterCount(text: string): number {
  let count = 0;
  for (let i = 0; i < text.length; count++) i += unitsAt(text, i);
  return count;
}

/** The beginning of a text, of at most so many characters and no half of one. */
export function firstCharacters(text: string, most: number): string {
  let end = 0;
  for (let count = 0; count < most && end < text.length; count++) end += unitsAt(text, end);
  return text.slice(0, end);
}

const unitsAt = (text: string, index: number) => ((text.codePointAt(index) ?? 0) > 0xffff ? 2 : 1);
