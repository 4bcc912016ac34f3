// Requests gone wrong: mutations of JSON values, of their text, and of query strings. Arbitraries of fast-check only; what a
// server makes of them, the tests ask.
import fc from "fast-check";

/** A text that stands in JSON as it is, whether or not it is JSON. */
class Raw {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

const ODD_TEXTS = [
  "",
  " ",
  "\u0000",
  "a\u0000b",
  "\ud800",
  "b\udfffa",
  "\u202e\u0301",
  "NaN",
  "null",
  "-1",
  "__proto__",
  "constructor",
  "../../etc/passwd",
  "' OR 1=1 --",
  "%00",
  "{{ item.x }}",
  "{{",
  "x".repeat(70_000),
  "\u{1f600}".repeat(300),
  "(".repeat(5000),
  "[".repeat(5000),
];

const ODD_NUMBERS = ["0", "-0", "-1", "0.5", "1e308", "-1e308", "1e999", "-1e999", "5e-324"].concat([
  "9007199254740993",
  "9223372036854775808",
  "1e21",
  "NaN",
  "01",
  "0x10",
  "2147483648",
]);

const nested = (open: string, close: string, depth: number) =>
  new Raw(open.repeat(depth) + "1" + close.repeat(depth));

const oddValue: fc.Arbitrary<unknown> = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom<unknown>(null, true, false, [], {}, [[]], [null], [{}]) },
  { weight: 4, arbitrary: fc.constantFrom(...ODD_TEXTS) },
  { weight: 4, arbitrary: fc.constantFrom(...ODD_NUMBERS).map((text) => new Raw(text)) },
  { weight: 2, arbitrary: fc.string({ unit: "binary", maxLength: 200 }) },
  { weight: 1, arbitrary: fc.double() },
  { weight: 2, arbitrary: fc.jsonValue({ maxDepth: 3 }) },
  {
    weight: 1,
    arbitrary: fc.constantFrom(nested("[", "]", 200), nested("[", "]", 20_000), nested('{"a":', "}", 200)),
  },
  { weight: 1, arbitrary: fc.nat({ max: 3000 }).map((length) => Array.from({ length }, () => "a")) },
);

const oddKey = fc.oneof(
  fc.constantFrom(
    "__proto__",
    "constructor",
    "prototype",
    "toString",
    "",
    "type",
    "name",
    "\u0000",
    "stream",
  ),
  fc.string({ unit: "binary", maxLength: 80 }),
);

/** What happens to one place of a value. */
const mutation: fc.Arbitrary<(node: unknown, pick: number) => unknown> = fc.oneof(
  { weight: 5, arbitrary: oddValue.map((value) => () => value) },
  { weight: 2, arbitrary: fc.constant((node: unknown) => [node]) },
  { weight: 1, arbitrary: fc.constant((node: unknown) => ({ a: node })) },
  { weight: 1, arbitrary: fc.constant((node: unknown) => String(node)) },
  {
    weight: 3,
    arbitrary: fc.constant((node: unknown, pick: number) =>
      edited(node, (entries) => entries.toSpliced(pick % Math.max(1, entries.length), 1)),
    ),
  },
  {
    weight: 3,
    arbitrary: fc.tuple(oddKey, oddValue).map(
      ([key, value]) =>
        (node: unknown) =>
          edited(node, (entries) => [...entries, [key, value]]),
    ),
  },
  {
    weight: 2,
    arbitrary: oddKey.map(
      (key) => (node: unknown, pick: number) =>
        edited(node, (entries) =>
          entries.map(([name, value], i) => [i === pick % entries.length ? key : name, value]),
        ),
    ),
  },
  {
    // A member or element twice.
    weight: 2,
    arbitrary: fc.constant((node: unknown, pick: number) =>
      edited(node, (entries) => {
        const entry = entries[pick % Math.max(1, entries.length)];
        return entry === undefined ? entries : [...entries, entry];
      }),
    ),
  },
);

type Entries = [string, unknown][];
/** An object as the list of its members, which may have one twice and one named `__proto__`. */
class Members {
  readonly entries: Entries;
  constructor(entries: Entries) {
    this.entries = entries;
  }
}

function edited(node: unknown, edit: (entries: Entries) => Entries): unknown {
  if (Array.isArray(node)) {
    return edit(node.map((value, i) => [String(i), value as unknown])).map(([, value]) => value);
  }
  if (node instanceof Raw || typeof node !== "object" || node === null) return node;
  return new Members(edit(entriesOf(node)));
}

const entriesOf = (node: object): Entries => (node instanceof Members ? node.entries : Object.entries(node));

/** Counts the places of a value and changes the chosen one. */
function changeAt(root: unknown, chosen: number, change: (node: unknown) => unknown): unknown {
  let index = 0;
  const walk = (node: unknown): unknown => {
    if (index++ === chosen) return change(node);
    if (Array.isArray(node)) return node.map(walk);
    if (node instanceof Raw || typeof node !== "object" || node === null) return node;
    return new Members(entriesOf(node).map(([key, value]) => [key, walk(value)]));
  };
  return walk(root);
}

function sizeOf(node: unknown): number {
  if (Array.isArray(node)) return node.reduce<number>((sum, each) => sum + sizeOf(each), 1);
  if (node instanceof Raw || typeof node !== "object" || node === null) return 1;
  return entriesOf(node).reduce((sum, [, value]) => sum + sizeOf(value), 1);
}

function jsonText(node: unknown): string {
  if (node instanceof Raw) return node.text;
  if (Array.isArray(node)) return `[${node.map(jsonText).join(",")}]`;
  if (typeof node === "object" && node !== null) {
    return `{${entriesOf(node)
      .map(([key, value]) => `${JSON.stringify(key)}:${jsonText(value)}`)
      .join(",")}}`;
  }
  return JSON.stringify(node) ?? "null";
}

/** Texts of bodies like this one, most of them well-formed. */
export function mutatedBody(valid: unknown): fc.Arbitrary<Buffer> {
  const place = fc.record({ at: fc.nat(), pick: fc.nat({ max: 1000 }), change: mutation });
  const value = fc.array(place, { minLength: 1, maxLength: 3 }).map((places) =>
    places.reduce<unknown>((node, { at, pick, change }) => {
      const chosen = at % Math.min(sizeOf(node), 400);
      return changeAt(node, chosen, (found) => change(found, pick));
    }, valid),
  );
  const whole = value.map((node) => Buffer.from(jsonText(node)));
  return fc.oneof(
    { weight: 12, arbitrary: whole },
    { weight: 1, arbitrary: fc.tuple(whole, breakage).map(broken) },
  );
}

export const breakage = fc.record({
  at: fc.nat({ max: 1_000_000 }),
  kind: fc.constantFrom("cut", "byte", "lone continuation", "bom", "nothing"),
  byte: fc.nat({ max: 255 }),
});

/** Bytes that were cut off or spoilt. */
export function broken([bytes, { at, kind, byte }]: [
  Buffer,
  { at: number; kind: string; byte: number },
]): Buffer {
  const place = at % Math.max(1, bytes.length);
  switch (kind) {
    case "cut":
      return bytes.subarray(0, place);
    case "byte":
      return Buffer.concat([bytes.subarray(0, place), Buffer.from([byte]), bytes.subarray(place + 1)]);
    case "lone continuation":
      return Buffer.concat([
        bytes.subarray(0, place),
        Buffer.from([0xc3, 0x28, 0x80]),
        bytes.subarray(place),
      ]);
    case "bom":
      return Buffer.concat([Buffer.from([0xef, 0xbb, 0xbf]), bytes]);
    default:
      return Buffer.alloc(0);
  }
}

/** A text for a place of an address, percent-encoded or nearly so. */
export const oddAddressPart: fc.Arbitrary<string> = fc.oneof(
  fc.constantFrom(
    "%00",
    "%",
    "%zz",
    "%ff%fe",
    "..",
    "%2e%2e%2f",
    "a%2Fb",
    "%F0%9F%98%80",
    "%ED%A0%80",
    "-1",
    "0",
  ),
  fc.constantFrom(
    "1e3",
    "+1",
    "%201",
    "x".repeat(900),
    "x".repeat(5000),
    "null",
    "__proto__",
    "file-",
    "ftjob-",
  ),
  fc.string({ unit: "grapheme", maxLength: 30 }).map(encodeURIComponent),
);

/** Query strings like this one. */
export function mutatedQuery(valid: Readonly<Record<string, string>>): fc.Arbitrary<string> {
  const names = Object.keys(valid);
  const name = fc.oneof(
    fc.constantFrom(...names),
    fc.constantFrom(...names).map((each) => `${each}[]`),
    fc.constantFrom(
      "metadata[]",
      "metadata[__proto__]",
      "metadata[a][b]",
      "metadata",
      "__proto__",
      "%6cimit",
      "a.b",
    ),
    oddAddressPart,
  );
  const pair = fc.oneof(
    {
      weight: 2,
      arbitrary: fc.constantFrom(...Object.entries(valid).map(([key, value]) => `${key}=${value}`)),
    },
    { weight: 4, arbitrary: fc.tuple(name, oddAddressPart).map(([key, value]) => `${key}=${value}`) },
    { weight: 1, arbitrary: name },
  );
  return fc.array(pair, { minLength: 1, maxLength: 4 }).map((pairs) => pairs.join("&"));
}
