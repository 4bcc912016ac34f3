// filename* in a form's header: found wherever the form is cut, and only there.
import { expect, test } from "vitest";
import { ExtendedFilename } from "./extended-filename.ts";

const TYPE = "multipart/form-data; boundary=b-1";

const formOf = (disposition: string, before = "") =>
  `${before}--b-1\r\nContent-Type: text/plain\r\nContent-Disposition: ${disposition}\r\n\r\n{}\r\n--b-1--\r\n`;

function nameIn(form: string, options: { type?: string | undefined; step?: number } = {}): string | null {
  const { type = TYPE, step = form.length } = options;
  const filename = new ExtendedFilename(type);
  const bytes = Buffer.from(form);
  for (let start = 0; start < bytes.length; start += step) filename.see(bytes.subarray(start, start + step));
  return filename.name;
}

const BOTH = `form-data; name="file"; filename="a.jsonl"; filename*=UTF-8''%C3%BCbung%201.jsonl`;

test.each([
  ["both, quoted", BOTH, "übung 1.jsonl"],
  [".NET", "form-data; name=file; filename=a.jsonl; filename*=utf-8''a.jsonl", "a.jsonl"],
  [
    "the star first",
    `form-data; name="file"; filename*=UTF-8'de'%e2%82%ac.jsonl; filename="e.jsonl"`,
    "€.jsonl",
  ],
  ["Latin-1", "form-data; name=file; filename*=ISO-8859-1''%FC.jsonl", "ü.jsonl"],
  ["quoted by mistake", `form-data; name="file"; filename*="UTF-8''%C3%BC.jsonl"`, "ü.jsonl"],
  ["none", `form-data; name="file"; filename="a.jsonl"`, null],
  ["broken UTF-8", "form-data; name=file; filename*=UTF-8''%FC.jsonl", null],
  ["text of a quoted name", `form-data; name="file"; filename="x; filename*=UTF-8''evil.jsonl"`, null],
  [
    "text of a quoted name, and a real one",
    `form-data; name="file"; filename="x\\"; filename*=UTF-8''evil.jsonl"; filename*=UTF-8''good.jsonl`,
    "good.jsonl",
  ],
  [
    "text of a name whose quotes stay open",
    `form-data; name="file"; filename="x; filename*=UTF-8''evil`,
    null,
  ],
  ["another header's", `form-data; name=file; filename=a\r\nX-Other: a; filename*=UTF-8''evil`, null],
  ["a member's", `form-data; name="file; filename*=UTF-8''evil"`, null],
  ["another charset", "form-data; name=file; filename*=koi8-r''%FC.jsonl", null],
])("%s", (_name, disposition, expected) => {
  expect(nameIn(formOf(disposition))).toBe(expected);
});

test("the form may arrive byte by byte, after other members, under a quoted boundary", () => {
  const before = `--b-1\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n`;
  for (const step of [1, 7, 64]) expect(nameIn(formOf(BOTH, before), { step })).toBe("übung 1.jsonl");
  expect(nameIn(formOf(BOTH), { type: 'multipart/form-data; boundary="b-1"' })).toBe("übung 1.jsonl");
});

test("a member's value or a file's bytes are no header", () => {
  const value = `--b-1\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nContent-Disposition: ${BOTH}\r\n\r\n\r\n`;
  expect(nameIn(formOf(`form-data; name="file"; filename="a.jsonl"`, value))).toBe(null);
});

test("a member whose name reads like a file's is none: the file's header counts", () => {
  const member = `--b-1\r\nContent-Disposition: form-data; name="a; filename=b"\r\n\r\n\r\n`;
  expect(nameIn(formOf(BOTH, member))).toBe("übung 1.jsonl");
});

test("what comes after a long way is not looked for", () => {
  const long = `--b-1\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n${"x".repeat(200_000)}\r\n`;
  expect(nameIn(formOf(BOTH, long), { step: 65_536 })).toBe(null);
});
