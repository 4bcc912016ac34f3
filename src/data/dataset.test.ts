// Files as they come: good ones in every dress, bad ones with every line named, and laws over made-up files.
import { gzipSync } from "node:zlib";
import { mkdtemp, open, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Cancelled, DatasetError, Unavailable } from "../errors.ts";
import {
  CHAT_FORMAT,
  checkLines,
  countExamples,
  MAX_LINE_BYTES,
  MAX_NAMED_LINES,
  PREFERENCE_FORMAT,
  readDataset,
} from "./dataset.ts";
import type { DatasetParam } from "./dataset.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "dataset-test-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const example = (text: string) => ({
  messages: [
    { role: "user", content: text },
    { role: "assistant", content: "ok" },
  ],
});
const line = (text: string) => JSON.stringify(example(text));
const ten = Array.from({ length: 10 }, (_, i) => line(`é${i}`));

async function save(content: string | Buffer): Promise<string> {
  const path = join(folder, "data.jsonl");
  await writeFile(path, content);
  return path;
}
const read = async (content: string | Buffer, param: DatasetParam = "training_file") =>
  readDataset(await save(content), { param });

async function fault(content: string | Buffer, param: DatasetParam = "training_file") {
  const error: unknown = await read(content, param).then(
    () => null,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof DatasetError)) throw new Error(`expected a DatasetError, got ${String(error)}`);
  return { code: error.code, param: error.param, message: error.message, lines: error.lines };
}

describe("good files", () => {
  it.each([
    ["line feeds", `${ten.join("\n")}\n`],
    ["no last line feed", ten.join("\n")],
    ["CRLF", `${ten.join("\r\n")}\r\n`],
    ["a byte order mark", `\ufeff${ten.join("\n")}`],
    ["blank lines at the end", `${ten.join("\n")}\n\n \r\n\n`],
  ])("%s", async (_, content) => {
    const { examples, bytes } = await read(content);
    expect(examples).toEqual(ten.map((_text, i) => ({ line: i + 1, ...example(`é${i}`) })));
    expect(bytes).toBe(Buffer.byteLength(content));
  });

  it("texts come back as they were, however the file's bytes fall into chunks", async () => {
    const text = fc.string({ unit: "binary", maxLength: 200 });
    await fc.assert(
      fc.asyncProperty(fc.array(text, { minLength: 1, maxLength: 20 }), fc.nat(3), async (texts, pad) => {
        // Some lines of about a chunk's size, so that line ends fall on and around its border.
        const all = texts.map((one, i) => (i % 5 === 0 ? "x".repeat((1 << 20) - 90 + pad) + one : one));
        const { examples } = await read(all.map(line).join("\n"), "validation_file");
        expect(examples.map(({ messages }) => messages[0]?.content)).toEqual(all);
      }),
      { numRuns: 30, seed: 7 },
    );
  });
});

describe("too few examples", () => {
  it.each([
    ["", 0],
    ["\ufeff", 0],
    ["\n\n", 0],
    [ten.slice(1).join("\n"), 9],
  ])("%j", async (content, count) => {
    expect(await fault(content)).toEqual({
      code: "invalid_n_examples",
      param: "training_file",
      message: `Training file has ${count} example(s), but must have at least 10 examples. Add at least ${10 - count} more, one a line.`,
      lines: [],
    });
  });

  it("one will do for validation", async () => {
    expect((await read(line("a"), "validation_file")).examples).toHaveLength(1);
    expect(await fault("", "validation_file")).toMatchObject({
      code: "invalid_n_examples",
      message:
        "Validation file has 0 example(s), but must have at least 1 example. Add at least 1 more, one a line.",
    });
  });
});

describe("bad files", () => {
  it("one bad line is named in a sentence, under OpenAI's code for its kind", async () => {
    const withExtra = JSON.stringify({ ...example("a"), weight: 2 });
    expect(await fault([...ten, withExtra].join("\n"))).toEqual({
      code: "invalid_file_format",
      param: "training_file",
      message:
        'The job failed due to a file format error in the training file. Invalid file format. Example 11 contains an extra "weight". Leave "weight" out.',
      lines: [11],
    });
    const withRole = line("a").replace('"user"', '"bot"');
    expect(await fault([withRole, ...ten].join("\n"), "validation_file")).toEqual({
      code: "invalid_validation_file",
      param: "validation_file",
      message:
        'The job failed due to an invalid validation file. Invalid file format. Example 1, message 1 has role "bot", expected one of system, developer, user, assistant, tool.',
      lines: [1],
    });
  });

  it.each([
    [
      "a blank line between others",
      [line("a"), "", line("b")],
      "Example 2 is a blank line, expected one JSON object a line.",
    ],
    ["a line that is no JSON", [line("a"), "{", line("b")], "Example 2 is not valid JSON: "],
    ["a byte order mark within", [line("a"), `\ufeff${line("b")}`], "Example 2 is not valid JSON: "],
    ["a duplicate key", ['{"messages": [], "messages": []}'], 'Example 1 has the key "messages" twice.'],
    [
      "a number too large",
      ['{"messages": 1e999}'],
      'Example 1 holds a number that cannot be kept exactly: 1e999 at "messages".',
    ],
    [
      "several faults in a line",
      [JSON.stringify({ a: 1, b: 1, c: 1, d: 1, ...example("a") })],
      'Example 1 contains an extra "a"; example 1 contains an extra "b"; example 1 contains an extra "c"; and 1 more.',
    ],
  ])("%s", async (_, lines, message) => {
    expect((await fault(lines.join("\n"))).message).toContain(message);
  });

  it("invalid UTF-8 and UTF-16 are named as such", async () => {
    const broken = Buffer.concat([
      Buffer.from(`${line("a")}\n`),
      Buffer.from([0x22, 0xff, 0x22]),
      Buffer.from("\n"),
    ]);
    expect((await fault(broken)).message).toContain("Example 2 is not valid UTF-8; save the file as UTF-8.");
    const utf16 = Buffer.from(`\ufeff${line("a")}`, "utf16le");
    expect((await fault(utf16)).message).toContain("Example 1 is UTF-16; save the file as UTF-8.");
    const packed = gzipSync(line("a"));
    expect((await fault(packed)).message).toContain("Example 1 begins as a gzip file does; unpack it first.");
  });

  it("names the first lines and counts the rest", async () => {
    const bad = Array.from({ length: MAX_NAMED_LINES + 5 }, () => "{}");
    const { message, lines } = await fault([ten[0], ...bad].join("\n"));
    expect(lines).toEqual(Array.from({ length: MAX_NAMED_LINES }, (_, i) => i + 2));
    expect(message).toContain(
      'Invalid file format. 25 lines are wrong:\nExample 2 is missing key "messages".\nExample 3 ',
    );
    expect(message).toMatch(
      /Example 21 is missing key "messages"\.\n… and 5 more\.\nAdd "messages": a list of messages\.$/,
    );
  });

  it("counts blank lines without end", async () => {
    const { message } = await fault(`${line("a")}${"\n".repeat(100_001)}${line("b")}`);
    expect(message).toContain("100000 lines are wrong:");
  });

  it.each([
    [
      "preference",
      '{"input": {"messages": []}, "preferred_output": [], "non_preferred_output": []}',
      "The job failed due to an invalid training file. Invalid file format. The input file is in the fine-tune-preference format, but the specified fine-tuning job is using 'supervised' as the training method.",
    ],
    [
      "completion",
      '{"prompt": "a", "completion": "b"}',
      "The job failed due to an invalid training file. Invalid file format. The input file has prompt/completion pairs, which only legacy completion models take; expected chat messages.",
    ],
  ])("a whole file of %s lines gets one answer, a single such line its own", async (_, foreign, message) => {
    expect(await fault(`${foreign}\n${foreign}\n`)).toMatchObject({
      code: "invalid_training_file",
      message: expect.stringContaining(message) as string,
    });
    expect((await fault([...ten, foreign].join("\n"))).message).toContain('Example 11 contains an extra "');
  });

  it("every line that is made bad is named, and no other", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.constantFrom("good", "{}", "x", "\u0000", ""), { maxLength: 18 }),
        async (kinds) => {
          const lines = [...kinds.map((kind, i) => (kind === "good" ? line(`${i}`) : kind)), line("last")];
          const found: number[] = [];
          const report = await checkLines(await save(lines.join("\n")), CHAT_FORMAT, undefined, (example) =>
            found.push(example.line),
          );
          const bad = kinds.flatMap((kind, i) => (kind === "good" ? [] : [i + 1]));
          expect(report.badLines.map((entry) => entry.line)).toEqual(bad);
          expect(found).toEqual(lines.flatMap((_, i) => (bad.includes(i + 1) ? [] : [i + 1])));
          expect(report.exampleCount).toBe(found.length);
        },
      ),
      { numRuns: 100, seed: 8 },
    );
  });
});

describe("counting", () => {
  it("gives the number of examples, or the error that reading gives", async () => {
    const good = await save(ten.join("\n"));
    expect(await countExamples(good, { param: "training_file" })).toBe(10);
    const bad = await save([...ten, "bad"].join("\n"));
    const error: unknown = await readDataset(bad, { param: "training_file" }).catch(
      (found: unknown) => found,
    );
    await expect(countExamples(bad, { param: "training_file" })).rejects.toEqual(error);
    const few = await save(line("one"));
    await expect(countExamples(few, { param: "training_file" })).rejects.toThrow("has 1 example(s)");
  });
});

describe("what must not bring the process down", () => {
  it("a line of 100 MB is an error that names it, and memory stays bounded", async () => {
    const path = join(folder, "long.jsonl");
    const file = await open(path, "w");
    const block = Buffer.alloc(1 << 20, "a");
    await file.write(`${line("a")}\n{"messages": "`);
    for (let i = 0; i < 100; i++) await file.write(block);
    await file.write(`"}\n${line("b")}\n`);
    await file.close();
    const before = process.memoryUsage().arrayBuffers;
    let most = 0;
    const timer = setInterval(() => (most = Math.max(most, process.memoryUsage().arrayBuffers - before)), 1);
    const found: number[] = [];
    const report = await checkLines(path, CHAT_FORMAT, undefined, (example) => found.push(example.line));
    clearInterval(timer);
    expect(found).toEqual([1, 3]);
    expect(report.badLines.map((entry) => [entry.line, entry.faults[0]?.text])).toEqual([
      [
        2,
        `is longer than ${MAX_LINE_BYTES} bytes, the limit of one line; shorten it or write one example a line`,
      ],
    ]);
    expect(most).toBeLessThan(64 * 2 ** 20);
  });

  it("a line just as long as the limit is read", async () => {
    const text = "x".repeat(MAX_LINE_BYTES - Buffer.byteLength(line("")));
    expect((await read(`${line(text)}\r\n`, "validation_file")).examples).toHaveLength(1);
    expect((await fault(`\ufeff${line(`${text}x`)}\r\n`, "validation_file")).message).toContain(
      "is longer than",
    );
  });

  it("a missing file is Unavailable, an aborted read Cancelled", async () => {
    const missing = join(folder, "missing.jsonl");
    await expect(readDataset(missing, { param: "training_file" })).rejects.toThrow(Unavailable);
    await expect(readDataset(missing, { param: "training_file" })).rejects.toThrow(
      `The file ${missing} cannot be read: ENOENT`,
    );
    const path = await save(ten.join("\n"));
    const options = { param: "training_file" as const, signal: AbortSignal.abort() };
    await expect(readDataset(path, options)).rejects.toThrow(Cancelled);
  });
});

describe("lines and files that are bad through and through", () => {
  it("of a line with thousands of faults a hundred are kept, of either method's data", async () => {
    const extra = Object.fromEntries(Array.from({ length: 5_000 }, (_, i) => [`k${i}`, 0]));
    const many = Array.from({ length: 5_000 }, () => ({}));
    const bad = [
      { ...example("a"), ...extra },
      { messages: many },
      { messages: [{ role: "user", content: many }] },
      { messages: [{ role: "assistant", content: "", tool_calls: many }] },
      { messages: [{ role: "user", content: "a", ...extra }] },
    ];
    const pairs = [
      { ...extra, input: example("a"), preferred_output: [], non_preferred_output: [] },
      { input: { messages: many }, preferred_output: [{}], non_preferred_output: [{}] },
    ];
    const counts: number[] = [];
    const count = (_line: number, { length }: readonly unknown[]) => counts.push(length);
    const path = await save(bad.map((value) => JSON.stringify(value)).join("\n"));
    await checkLines(path, CHAT_FORMAT, undefined, undefined, count);
    const { message } = await fault([JSON.stringify(bad[0]), ...ten].join("\n"));
    expect(message).toContain(`example 1 contains an extra "k2"; and at least 97 more.`);
    const pairPath = await save(pairs.map((value) => JSON.stringify(value)).join("\n"));
    await checkLines(pairPath, PREFERENCE_FORMAT, undefined, undefined, count);
    expect(counts).toEqual([...bad, ...pairs].map(() => 100));
  });

  it("blank lines in a row are told as one, and counted each", async () => {
    const told: [number, number][] = [];
    const path = await save(`${ten[0]}\n${"\n".repeat(3_000_000)}${ten[1]}\n\n${ten[2]}\n\n\n`);
    const report = await checkLines(path, CHAT_FORMAT, undefined, undefined, (line, _faults, last) =>
      told.push([line, last]),
    );
    expect(told).toEqual([
      [2, 3_000_001],
      [3_000_003, 3_000_003],
    ]);
    expect(report).toMatchObject({ exampleCount: 3, badLineCount: 3_000_001 });
    expect(report.badLines.map(({ line }) => line)).toEqual(
      Array.from({ length: MAX_NAMED_LINES }, (_, i) => i + 2),
    );
  });
});
