// Synonyms from a WordNet database in its own file format (wndb(5WN): index.*, data.* and *.exc of one folder), found as nltk
// finds them: every sense of the word and of its base forms. WordNet is not part of this package; a setting names its folder.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { InvalidRequest } from "../errors.ts";
import type { Synonyms } from "./meteor.ts";

/** What base forms are made with, as wordnet's morphy: an ending and what takes its place. */
const ENDINGS = {
  noun: ["s:", "ses:s", "ves:f", "xes:x", "zes:z", "ches:ch", "shes:sh", "men:man", "ies:y"],
  verb: ["s:", "ies:y", "es:e", "es:", "ed:e", "ed:", "ing:e", "ing:"],
  adj: ["er:", "est:", "er:e", "est:e"],
  adv: [],
} as const;
const PARTS_OF_SPEECH = ["noun", "verb", "adj", "adv"] as const;
type PartOfSpeech = (typeof PARTS_OF_SPEECH)[number];

interface Part {
  endings: readonly (readonly [ending: string, replacement: string])[];
  /** Byte offsets of the word's synsets in the data file. */
  index: ReadonlyMap<string, readonly number[]>;
  /** Irregular forms and their base forms. */
  exceptions: ReadonlyMap<string, readonly string[]>;
  data: Buffer;
}

/** Reads the database; the data files stay in memory, 30 MB for WordNet 3. Throws InvalidRequest when a file is missing or none of WordNet's. */
export async function openWordNet(folder: string): Promise<Synonyms> {
  const parts = await Promise.all(PARTS_OF_SPEECH.map((name) => readPart(folder, name)));
  return (word) => {
    const found = new Set<string>();
    for (const part of parts) {
      for (const form of baseForms(part, word)) {
        for (const offset of part.index.get(form) ?? []) {
          for (const lemma of lemmasAt(part.data, offset)) found.add(lemma);
        }
      }
    }
    return found;
  };
}

async function readPart(folder: string, name: PartOfSpeech): Promise<Part> {
  const read = async (file: string): Promise<Buffer> => {
    try {
      return await readFile(join(folder, file));
    } catch (error) {
      throw new InvalidRequest(
        `The WordNet folder '${folder}' has no readable file '${file}'. Expected index.*, data.* and *.exc of a WordNet database; set TUNESMITH_WORDNET to its folder, or to nothing to do without synonyms.`,
        { cause: error },
      );
    }
  };
  const [index, data, exceptions] = await Promise.all([
    read(`index.${name}`),
    read(`data.${name}`),
    read(`${name}.exc`),
  ]);
  return {
    endings: ENDINGS[name].map((pair) => {
      const [ending = "", replacement = ""] = pair.split(":");
      return [ending, replacement] as const;
    }),
    index: parseIndex(index.toString("utf8")),
    exceptions: new Map(
      lines(exceptions.toString("utf8")).map((line) => {
        const [form = "", ...bases] = line.trim().split(/\s+/);
        return [form, bases];
      }),
    ),
    data,
  };
}

const lines = (text: string) => text.split("\n").filter((line) => line.trim() !== "");

/** lemma pos synset_cnt p_cnt [ptr_symbol...] sense_cnt tagsense_cnt synset_offset [synset_offset...] */
function parseIndex(text: string): Map<string, number[]> {
  const index = new Map<string, number[]>();
  for (const line of lines(text)) {
    if (line.startsWith(" ")) continue; // the licence
    const fields = line.trim().split(" ");
    const pointers = Number(fields[3]);
    index.set(fields[0] ?? "", fields.slice(6 + pointers).map(Number));
  }
  return index;
}

/** The word itself and its base forms, as far as the index has them. */
function baseForms({ endings, index, exceptions }: Part, word: string): string[] {
  const bases =
    exceptions.get(word) ??
    endings
      .filter(([ending]) => word.endsWith(ending))
      .map(([ending, replacement]) => word.slice(0, word.length - ending.length) + replacement);
  return [...new Set([word, ...bases])].filter((form) => index.has(form));
}

/** Single words of the synset at this offset: offset lex_filenum ss_type w_cnt word lex_id [word lex_id...] … */
function lemmasAt(data: Buffer, offset: number): string[] {
  const end = data.indexOf("|", offset);
  const fields = data.toString("utf8", offset, end === -1 ? undefined : end).split(" ");
  const count = Number.parseInt(fields[3] ?? "0", 16);
  return Array.from({ length: count }, (_, i) => (fields[4 + 2 * i] ?? "").replace(/\([^()]*\)$/, "")).filter(
    (lemma) => lemma !== "" && !lemma.includes("_"),
  );
}
