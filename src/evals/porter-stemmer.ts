// The Porter stemmer with the extensions of nltk 3.10 (mode NLTK_EXTENSIONS), after "An algorithm for suffix stripping",
// Program 14.3 (1980). METEOR's second stage matches words by their stems.

/** Words whose stem the rules would get wrong. */
const IRREGULAR: ReadonlyMap<string, string> = new Map([
  ["sky", "sky"],
  ["skies", "sky"],
  ["dying", "die"],
  ["lying", "lie"],
  ["tying", "tie"],
  ["news", "news"],
  ["innings", "inning"],
  ["inning", "inning"],
  ["outings", "outing"],
  ["outing", "outing"],
  ["cannings", "canning"],
  ["canning", "canning"],
  ["howe", "howe"],
  ["proceed", "proceed"],
  ["exceed", "exceed"],
  ["succeed", "succeed"],
]);

/** The stem of one word, in lower case. */
export function porterStem(word: string): string {
  const lower = word.toLowerCase();
  const irregular = IRREGULAR.get(lower);
  if (irregular !== undefined) return irregular;
  if (countLetters(word) <= 2) return lower;
  return [step1a, step1b, step1c, step2, step3, step4, step5a, step5b].reduce(
    (stem, step) => step(stem),
    lower,
  );
}

/** Letters as Python counts them: code points. */
const countLetters = (word: string) => [...word].length;

/** For each letter, whether it is a consonant: a y is one at the start and after a vowel. */
function consonants(word: string): boolean[] {
  const flags: boolean[] = [];
  for (const [i, letter] of [...word].entries()) {
    flags.push(letter === "y" ? flags[i - 1] !== true : !"aeiou".includes(letter));
  }
  return flags;
}

/** How many times a vowel is followed by a consonant: m of the paper. */
function measure(stem: string): number {
  return consonants(stem).filter((isConsonant, i, flags) => isConsonant && flags[i - 1] === false).length;
}

const hasVowel = (stem: string) => consonants(stem).includes(false);

/** *d of the paper. */
function endsInDouble(word: string): boolean {
  const letters = [...word];
  return letters.length >= 2 && letters.at(-1) === letters.at(-2) && consonants(word).at(-1) === true;
}

/** *o of the paper (consonant, vowel, consonant but w, x and y), and nltk's addition for words of two letters. */
function endsInShortSyllable(word: string): boolean {
  const flags = consonants(word);
  const [third, second, last] = [flags.at(-3), flags.at(-2), flags.at(-1)];
  if (flags.length === 2) return second === false && last === true;
  return third === true && second === false && last === true && !"wxy".includes(word.at(-1) ?? "");
}

type Rule = readonly [suffix: string, replacement: string, condition?: (stem: string) => boolean];

/** Applies the first rule whose suffix the word has; if its condition fails, no other is tried. */
function apply(word: string, rules: readonly Rule[]): string {
  for (const [suffix, replacement, condition] of rules) {
    if (!word.endsWith(suffix)) continue;
    const stem = word.slice(0, word.length - suffix.length);
    return condition === undefined || condition(stem) ? stem + replacement : word;
  }
  return word;
}

const isLong = (stem: string) => measure(stem) > 0;
const isLonger = (stem: string) => measure(stem) > 1;

function step1a(word: string): string {
  if (word.endsWith("ies") && countLetters(word) === 4) return word.slice(0, -1);
  return apply(word, [
    ["sses", "ss"],
    ["ies", "i"],
    ["ss", "ss"],
    ["s", ""],
  ]);
}

function step1b(word: string): string {
  if (word.endsWith("ied")) return countLetters(word) === 4 ? word.slice(0, -1) : word.slice(0, -2);
  if (word.endsWith("eed")) return apply(word, [["eed", "ee", isLong]]);
  const suffix = ["ed", "ing"].find((each) => word.endsWith(each) && hasVowel(word.slice(0, -each.length)));
  if (suffix === undefined) return word;
  const stem = word.slice(0, -suffix.length);
  if (/(at|bl|iz)$/.test(stem)) return `${stem}e`;
  if (endsInDouble(stem)) return /[lsz]$/.test(stem) ? stem : [...stem].slice(0, -1).join("");
  return measure(stem) === 1 && endsInShortSyllable(stem) ? `${stem}e` : stem;
}

function step1c(word: string): string {
  return apply(word, [["y", "i", (stem) => countLetters(stem) > 1 && consonants(stem).at(-1) === true]]);
}

function step2(word: string): string {
  if (word.endsWith("alli") && isLong(word.slice(0, -4))) return step2(word.slice(0, -2));
  return apply(word, [
    ["ational", "ate", isLong],
    ["tional", "tion", isLong],
    ["enci", "ence", isLong],
    ["anci", "ance", isLong],
    ["izer", "ize", isLong],
    ["bli", "ble", isLong],
    ["alli", "al", isLong],
    ["entli", "ent", isLong],
    ["eli", "e", isLong],
    ["ousli", "ous", isLong],
    ["ization", "ize", isLong],
    ["ation", "ate", isLong],
    ["ator", "ate", isLong],
    ["alism", "al", isLong],
    ["iveness", "ive", isLong],
    ["fulness", "ful", isLong],
    ["ousness", "ous", isLong],
    ["aliti", "al", isLong],
    ["iviti", "ive", isLong],
    ["biliti", "ble", isLong],
    ["fulli", "ful", isLong],
    // nltk measures with the l of "logi" included.
    ["logi", "log", (stem) => isLong(`${stem}l`)],
  ]);
}

function step3(word: string): string {
  return apply(word, [
    ["icate", "ic", isLong],
    ["ative", "", isLong],
    ["alize", "al", isLong],
    ["iciti", "ic", isLong],
    ["ical", "ic", isLong],
    ["ful", "", isLong],
    ["ness", "", isLong],
  ]);
}

const STEP_4_SUFFIXES =
  "al ance ence er ic able ible ant ement ment ent ion ou ism ate iti ous ive ize".split(" ");

function step4(word: string): string {
  return apply(
    word,
    STEP_4_SUFFIXES.map((suffix) => [
      suffix,
      "",
      (stem) => isLonger(stem) && (suffix !== "ion" || /[st]$/.test(stem)),
    ]),
  );
}

function step5a(word: string): string {
  return apply(word, [
    ["e", "", (stem) => isLonger(stem) || (measure(stem) === 1 && !endsInShortSyllable(stem))],
  ]);
}

function step5b(word: string): string {
  return apply(word, [["ll", "l", (stem) => isLonger(`${stem}l`)]]);
}
