// Answers in another language than nearly all others. A language is told by its script, or by its most frequent function
// words; where neither decides, nothing is said. Rather silent than wrong: code, names and short texts have no language here.
import type { DatasetParam } from "../dataset.ts";
import { Places, rows } from "./report.ts";
import type { Finding } from "./report.ts";
import type { Row, Rule } from "./row.ts";
import { excerpt } from "./row.ts";

/** The most frequent function words. Some are shared; the lead that the best language must have makes up for it. */
const FUNCTION_WORDS: Readonly<Record<string, readonly string[]>> = {
  English: "the and of to that is with for you are this it was not have be".split(" "),
  German: "der die das und ist nicht mit ein eine zu von auf dem den sich für ich wird".split(" "),
  French: "le la les des est une pour dans que qui pas vous avec sur du et nous au".split(" "),
  Spanish: "el los las del que una por con para está como pero más se su y es lo".split(" "),
  Italian: "il che di per non una con sono della gli è più anche questo nel alla dei".split(" "),
  Portuguese: "o os as que não uma com para está como mas você ao da do em um são".split(" "),
  Dutch: "de het een van en dat niet met voor zijn op aan ook wordt je naar maar".split(" "),
  Swedish: "och att det som en är på inte för med av den till ett jag har kan".split(" "),
  Polish: "nie się na jest że do to jak dla przez może który oraz przy są od".split(" "),
  Turkish: "bir ve bu için ile da de çok olarak daha gibi ne kadar değil var".split(" "),
};

const LANGUAGES_OF_WORD = new Map<string, string[]>();
for (const [language, words] of Object.entries(FUNCTION_WORDS)) {
  for (const word of words) LANGUAGES_OF_WORD.set(word, [...(LANGUAGES_OF_WORD.get(word) ?? []), language]);
}

const SCRIPTS: readonly (readonly [string, RegExp])[] = [
  ["Japanese", /[\p{Script=Hiragana}\p{Script=Katakana}]/gu],
  ["Chinese", /\p{Script=Han}/gu],
  ["Korean", /\p{Script=Hangul}/gu],
  ["Russian or another in Cyrillic", /\p{Script=Cyrillic}/gu],
  ["Greek", /\p{Script=Greek}/gu],
  ["Arabic", /\p{Script=Arabic}/gu],
  ["Hebrew", /\p{Script=Hebrew}/gu],
  ["Hindi or another in Devanagari", /\p{Script=Devanagari}/gu],
  ["Thai", /\p{Script=Thai}/gu],
];

/** Where none of these stands, no letter is of a script above: the lowest is Greek's. */
const OTHER_SCRIPTS = /[\u0370-\uFFFF]/;

/** Share of a text's letters that decides for a script; of Kana it takes less, since Japanese is mostly Han. */
const SCRIPT_SHARE = 0.5;
const KANA_SHARE = 0.1;
/** Letters a script is told from. */
const MIN_LETTERS = 10;
/** Words a language is told from. */
const MIN_WORDS = 15;
/** Share of words that are the language's function words: running text has a third, quoted words fewer. */
const WORD_SHARE = 0.2;
/** The best language must have this many times the function words of the next. */
const LEAD = 2;
/** Characters looked at. */
const MAX_CHARACTERS = 2_000;
/** Share of the rows with a known language that makes it the file's, and how many those must be. */
const MOST = 0.9;
const MIN_ROWS = 20;

/** Null where it is not clear. */
export function languageOf(text: string): string | null {
  const sample = text.slice(0, MAX_CHARACTERS);
  if (OTHER_SCRIPTS.test(sample)) {
    const letters = sample.match(/\p{L}/gu)?.length ?? 0;
    if (letters < MIN_LETTERS) return null;
    for (const [language, script] of SCRIPTS) {
      const share = (sample.match(script)?.length ?? 0) / letters;
      if (share >= (language === "Japanese" ? KANA_SHARE : SCRIPT_SHARE)) return language;
    }
  }
  const words = sample.toLowerCase().match(/\p{L}+/gu) ?? [];
  if (words.length < MIN_WORDS) return null;
  const hits = new Map<string, number>();
  for (const word of words) {
    for (const language of LANGUAGES_OF_WORD.get(word) ?? [])
      hits.set(language, (hits.get(language) ?? 0) + 1);
  }
  const [[best, most] = ["", 0], [, next] = ["", 0]] = [...hits].sort((a, b) => b[1] - a[1]);
  return most >= words.length * WORD_SHARE && most >= next * LEAD ? best : null;
}

/** A question in another language, or that names one, is answered in it on purpose. */
function isAskedFor(language: string, userText: string): boolean {
  const [name = ""] = language.toLowerCase().split(" ");
  if (language === "English") return false;
  const script = SCRIPTS.find(([each]) => each === language)?.[1];
  return (
    userText.toLowerCase().includes(name) ||
    (script !== undefined && userText.match(script) !== null) ||
    languageOf(userText) === language
  );
}

export class Languages implements Rule<Finding> {
  readonly #file: DatasetParam;
  readonly #byLanguage = new Map<string, Places>();

  constructor(file: DatasetParam) {
    this.#file = file;
  }

  add({ answer, line, userText }: Row): void {
    const language = languageOf(answer);
    if (language === null || isAskedFor(language, userText)) return;
    const places = this.#byLanguage.get(language) ?? new Places();
    places.add(line, () => excerpt(answer, 40));
    this.#byLanguage.set(language, places);
  }

  findings(): Finding[] {
    const languages = [...this.#byLanguage].sort((a, b) => b[1].count - a[1].count);
    const total = languages.reduce((sum, [, { count }]) => sum + count, 0);
    const [main, ...others] = languages;
    if (main === undefined || total < MIN_ROWS || main[1].count < total * MOST) return [];
    return others.map(([language, { count, places }]) => ({
      kind: "mixed_languages",
      severity: "warning" as const,
      file: this.#file,
      message: `${rows(count)} ${count === 1 ? "is" : "are"} answered in ${language}, nearly all others in ${main[0]}`,
      fix: "Check that the answer's language is the one you want for such a question.",
      count,
      places,
    }));
  }
}
