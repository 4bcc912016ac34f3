// Results that a page of docs/ shows: kept entry by entry in docs/<name>.json, and as a table between two marks of docs/<name>.md, so
// that a sweep of hours can be run in pieces.
import { existsSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";

const DOCS = join(import.meta.dirname, "../docs");
const END = "<!-- end -->";

/** Adds entries in place of earlier ones with their key, and writes the table anew, sorted by key. */
export async function recordResults<Entry>(
  name: string,
  entries: readonly Entry[],
  { keyOf, table }: { keyOf: (entry: Entry) => string; table: (entries: readonly Entry[]) => string },
): Promise<void> {
  const [results, page] = [join(DOCS, `${name}.json`), join(DOCS, `${name}.md`)];
  const earlier = existsSync(results) ? (JSON.parse(await readFile(results, "utf8")) as Entry[]) : [];
  const all = new Map([...earlier, ...entries].map((entry) => [keyOf(entry), entry]));
  const sorted = [...all].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, entry]) => entry);
  await writeFile(results, `${JSON.stringify(sorted, null, 2)}\n`);
  const begin = `<!-- begin: made by npm run ${name} -- --write -->`;
  const [head, rest] = (await readFile(page, "utf8")).split(begin);
  const tail = rest?.split(END)[1];
  if (tail === undefined) throw new Error(`${page} must hold the lines "${begin}" and "${END}".`);
  await writeFile(page, `${head}${begin}\n\n${table(sorted)}\n${END}${tail}`);
}
