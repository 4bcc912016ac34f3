// Uploads gone wrong: forms mutated at random, in their parts and in their bytes. Whatever is sent, the answer is a file object or a
// 4xx in the envelope, it comes, and a refused upload leaves nothing behind.
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { expect, test } from "vitest";
import { errorEnvelope } from "../../src/wire/error.ts";
import { UPLOAD_PARTS } from "./fuzz-cases.ts";
import { testServer } from "./harness.ts";
import { breakage, broken } from "./mutations.ts";

const SEED = 20_251_124;
const RUNS = 500;
const PATIENCE_MS = 10_000;
const BOUNDARY = "x-boundary";

interface Part {
  head: string;
  body: string;
}

const VALID: readonly Part[] = UPLOAD_PARTS.map((part) =>
  "filename" in part
    ? {
        head: `Content-Disposition: form-data; name="${part.name}"; filename="${part.filename}"\r\nContent-Type: text/plain`,
        body: String(part.content),
      }
    : { head: `Content-Disposition: form-data; name="${part.name}"`, body: part.value },
);

const oddHead = fc.oneof(
  fc.constantFrom(
    "",
    "Content-Disposition: form-data",
    'Content-Disposition: form-data; name=""',
    'Content-Disposition: form-data; name="file"',
    'Content-Disposition: form-data; name="__proto__"',
    'Content-Disposition: form-data; name="__proto__[anchor]"',
    'Content-Disposition: form-data; name="expires_after[__proto__]"',
    'Content-Disposition: form-data; name="expires_after[]"',
    'Content-Disposition: form-data; name="expires_after[a][b]"',
    'Content-Disposition: form-data; name="expires_after"',
    'Content-Disposition: form-data; name="constructor"; filename="a"',
    'Content-Disposition: attachment; name="purpose"',
    'Content-Disposition: form-data; name="file"; filename=""',
    "Content-Disposition: form-data; name=\"file\"; filename*=UTF-8''%ff%00",
    'Content-Disposition: form-data; name="file"; filename="a\u0000b"\r\nContent-Type: x/y\r\nContent-Length: 5',
    'Content-Disposition: form-data; name="file"; filename="../../x"\r\nContent-Transfer-Encoding: base64',
    'Content-Disposition: form-data; name="purpose"\r\nContent-Type: text/plain; charset=utf-16',
    `Content-Disposition: form-data; name="${"n".repeat(200)}"`,
    `X-Long: ${"h".repeat(20_000)}\r\nContent-Disposition: form-data; name="purpose"`,
    'Content-Disposition : form-data; name="purpose"',
    'content-disposition: FORM-DATA; NAME="purpose"',
  ),
  fc.string({ unit: "binary", maxLength: 60 }),
);
const oddBody = fc.oneof(
  fc.constantFrom(
    "",
    "fine-tune",
    "vision ",
    "9e3",
    "-1",
    "99999999999999999999",
    "\u0000",
    "x".repeat(10_000),
  ),
  fc.constantFrom(`--${BOUNDARY}`, `\r\n--${BOUNDARY}--\r\n`, "\r\n\r\n"),
  fc.string({ unit: "binary", maxLength: 60 }),
);

const change = fc.oneof(
  fc.constant((parts: Part[], i: number) => parts.toSpliced(i, 1)),
  fc.constant((parts: Part[], i: number) => [...parts, ...parts.slice(i, i + 1)]),
  fc.constant((parts: Part[], i: number) => [...parts.slice(i), ...parts.slice(0, i)]),
  oddHead.map((head) => (parts: Part[], i: number) => parts.with(i, { head, body: parts[i]?.body ?? "" })),
  oddBody.map((body) => (parts: Part[], i: number) => parts.with(i, { head: parts[i]?.head ?? "", body })),
  fc.tuple(oddHead, oddBody).map(([head, body]) => (parts: Part[]) => [...parts, { head, body }]),
  fc.constant((parts: Part[], i: number) =>
    Array.from({ length: 15 }, () => parts[i] ?? { head: "", body: "" }),
  ),
);
const parts = fc
  .array(fc.tuple(change, fc.nat({ max: 50 })), { minLength: 0, maxLength: 2 })
  .map((changes) =>
    changes.reduce<Part[]>(
      (all, [apply, pick]) => (all.length === 0 ? all : apply(all, pick % all.length)),
      [...VALID],
    ),
  );

const bytes = parts.map((all) =>
  Buffer.from(
    all.map(({ head, body }) => `--${BOUNDARY}\r\n${head}\r\n\r\n${body}\r\n`).join("") +
      `--${BOUNDARY}--\r\n`,
  ),
);
const payload = fc.oneof(
  { weight: 4, arbitrary: bytes },
  { weight: 1, arbitrary: fc.tuple(bytes, breakage).map(broken) },
);
const contentType = fc.oneof(
  { weight: 12, arbitrary: fc.constant(`multipart/form-data; boundary=${BOUNDARY}`) },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      "multipart/form-data",
      "multipart/form-data; boundary=",
      'multipart/form-data; boundary=""',
      "multipart/form-data; boundary=other",
      `multipart/form-data; boundary=${"b".repeat(300)}`,
      `multipart/mixed; boundary=${BOUNDARY}`,
      `MULTIPART/FORM-DATA; BOUNDARY="${BOUNDARY}"`,
      "application/x-www-form-urlencoded",
    ),
  },
);

test("forms", async () => {
  const server = await testServer();
  await fc.assert(
    fc.asyncProperty(payload, contentType, async (body, type) => {
      const answer = await server.app.inject({
        method: "POST",
        url: "/v1/files",
        payload: body,
        headers: { "content-type": type },
        signal: AbortSignal.timeout(PATIENCE_MS),
      });
      if (answer.statusCode === 200) return;
      expect(answer.statusCode, answer.body).toBeGreaterThanOrEqual(400);
      expect(answer.statusCode, answer.body).toBeLessThan(500);
      expect(errorEnvelope.strict().safeParse(answer.json()).error).toBeUndefined();
    }),
    { seed: SEED, numRuns: RUNS },
  );
  const list = await server.app.inject("/v1/files");
  const ids = list.json<{ data: { id: string }[] }>().data.map(({ id }) => id);
  expect(ids.length).toBeGreaterThan(20);
  const stored = await readdir(join(server.home, "files"));
  expect(stored.sort()).toEqual(ids.sort());
});
