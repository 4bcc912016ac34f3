// `tunesmith export` and `tunesmith verify`: what is written, and archives and folders that are not what they should be.
import { createHash } from "node:crypto";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import type { ServerResponse } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { packTar } from "modern-tar";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { sendError, startFakeServer, tunesmith } from "./fake-server.ts";

let folder: string;
let close: () => Promise<unknown> = async () => undefined;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tunesmith-cli-"));
});
afterEach(async () => {
  rmSync(folder, { recursive: true });
  await close();
});

const MODEL = "ft:gpt-4o-mini-2024-07-18:acme::abcdefgh";
const CONTENTS: Record<string, string> = { "README.md": "# A model\n", "adapter_config.json": "{}\n" };

function certificateOf(contents: Record<string, string>) {
  return {
    object: "tunesmith.export_certificate",
    version: 1,
    model: MODEL,
    format: "peft",
    precision: null,
    base_model: { id: "tiny", hugging_face_id: null, sha256: "0".repeat(64) },
    recipe: null,
    data: null,
    versions: { tunesmith: "0.1.0" },
    distance: {
      prompts: 20,
      prompts_from: { validation_file: 20, training_file: 0, built_in: 0 },
      prompts_sha256: "0".repeat(64),
      tokens: 320,
      equal_tokens: 320,
      equal_prompts: 20,
      max_logit_difference: 0,
      mean_logit_difference: 0,
      mean_kl: 0,
      bounds: { min_equal_tokens: 1, max_logit_difference: 0, max_mean_kl: 0 },
    },
    files: Object.entries(contents).map(([name, text]) => ({
      name,
      bytes: Buffer.byteLength(text),
      sha256: createHash("sha256").update(text).digest("hex"),
    })),
  };
}

type Entries = Parameters<typeof packTar>[0];

const entriesOf = (contents: Record<string, string>): Entries[number][] =>
  Object.entries(contents).map(([name, body]) => ({ header: { name, size: Buffer.byteLength(body) }, body }));

const good = (): Entries[number][] =>
  entriesOf({ ...CONTENTS, "certificate.json": JSON.stringify(certificateOf(CONTENTS)) });

/** Runs the command against a server that sends this archive. */
async function exportFrom(archive: Uint8Array, out = join(folder, "out"), more: string[] = []) {
  const send = (response: ServerResponse) => {
    response.writeHead(200, { "content-type": "application/x-tar" });
    response.end(archive);
  };
  const server = await startFakeServer({ [`GET /tunesmith/models/${MODEL}/export`]: send });
  close = server.close;
  const words = ["export", MODEL, "--format", "peft", "--out", out, "--base-url", server.baseUrl, ...more];
  return { ...(await tunesmith(words)), asked: server.asked };
}

const leftOver = () => readdirSync(folder);

describe("export", () => {
  test("writes the files, says how far they are from the model, and asks for what was said", async () => {
    const result = await exportFrom(await packTar(good()), join(folder, "out"), ["--precision", "f16"]);
    expect(result.code).toBe(0);
    expect(result.asked[0]?.path).toBe(`/tunesmith/models/${MODEL}/export?format=peft&precision=f16`);
    expect(result.out).toContain("320 of 320, over 20 prompts");
    expect(readdirSync(join(folder, "out")).sort()).toEqual([
      "README.md",
      "adapter_config.json",
      "certificate.json",
    ]);
    expect(readFileSync(join(folder, "out", "README.md"), "utf8")).toBe(CONTENTS["README.md"]);
    expect(leftOver()).toEqual(["out"]);
  });

  test("fills an empty folder; --json prints the certificate", async () => {
    mkdirSync(join(folder, "out"));
    const result = await exportFrom(await packTar(good()), join(folder, "out"), ["--json"]);
    expect(result.code).toBe(0);
    expect(JSON.parse(result.out)).toMatchObject({
      directory: join(folder, "out"),
      certificate: { model: MODEL },
    });
  });

  test("refuses a folder that holds anything, and a file, before it asks the server", async () => {
    mkdirSync(join(folder, "out"));
    writeFileSync(join(folder, "out", "mine"), "");
    const full = await exportFrom(await packTar(good()));
    expect([full.code, full.asked]).toEqual([2, []]);
    expect(full.err).toContain("is not empty: it has 1 entry");
    await close();
    const file = await exportFrom(await packTar(good()), join(folder, "out", "mine"));
    expect([file.code, file.asked]).toEqual([2, []]);
    expect(readdirSync(join(folder, "out"))).toEqual(["mine"]);
  });

  test.each<[string, (entries: Entries[number][]) => Entries, RegExp]>([
    ["a path that climbs out", (entries) => [...entries, ...entriesOf({ "../evil": "x" })], /"\.\.\/evil"/],
    ["an absolute path", (entries) => [...entries, ...entriesOf({ "/etc/evil": "x" })], /evil/],
    ["a folder", (entries) => [...entries, ...entriesOf({ "a/b": "x" })], /"a\/b"/],
    ["a hidden file", (entries) => [...entries, ...entriesOf({ ".ssh": "x" })], /"\.ssh"/],
    [
      "a link",
      (entries) => [
        ...entries,
        { header: { name: "link", size: 0, type: "symlink", linkname: "/etc/passwd" } },
      ],
      /"link" \(symlink\)/,
    ],
    ["a file twice", (entries) => [...entries, ...entriesOf({ "README.md": "x" })], /twice/],
    ["no certificate", (entries) => entries.slice(0, -1), /found none/],
    [
      "a file too much",
      (entries) => [...entries, ...entriesOf({ more: "x" })],
      /more: not in the certificate/,
    ],
    ["a file too few", (entries) => entries.slice(1), /README.md: missing/],
    [
      "another content",
      (entries) => [...entriesOf({ "README.md": "# A modem\n" }), ...entries.slice(1)],
      /README.md: sha256/,
    ],
  ])("an archive with %s is refused, and nothing is left", async (_name, change, message) => {
    const result = await exportFrom(await packTar(change(good())));
    expect(result.code).not.toBe(0);
    expect(result.err).toMatch(message);
    expect(leftOver()).toEqual([]);
    expect(existsSync(join(folder, "../evil"))).toBe(false);
  });

  test.each([
    ["in a file", 600],
    ["between files", 1024],
    ["before its end", -900],
  ])("an archive that is cut off %s is refused, and nothing is left", async (_name, end) => {
    const archive = await packTar(good());
    const result = await exportFrom(archive.subarray(0, end < 0 ? archive.length + end - 1024 : end));
    expect(result.code).not.toBe(0);
    expect(leftOver()).toEqual([]);
  });

  test("what the server refuses is passed on", async () => {
    const server = await startFakeServer({
      [`GET /tunesmith/models/${MODEL}/export`]: sendError(
        400,
        "too far from the trained model",
        "export_too_far",
      ),
    });
    close = server.close;
    const words = ["export", MODEL, "--format", "gguf", "--precision", "q4_0", "--out", join(folder, "out")];
    const result = await tunesmith([...words, "--base-url", server.baseUrl]);
    expect([result.code, leftOver()]).toEqual([1, []]);
    expect(result.err).toContain("too far from the trained model");
  });

  test("an unknown format is a fault of the command line", async () => {
    const result = await tunesmith(["export", MODEL, "--format", "onnx", "--out", join(folder, "out")]);
    expect(result.code).toBe(2);
    expect(result.err).toContain("peft, merged, gguf-adapter, gguf, ollama");
  });
});

describe("verify", () => {
  function write(change: (directory: string) => void = () => undefined): string {
    const directory = join(folder, "export");
    mkdirSync(directory);
    for (const [name, text] of Object.entries(CONTENTS)) writeFileSync(join(directory, name), text);
    writeFileSync(join(directory, "certificate.json"), JSON.stringify(certificateOf(CONTENTS)));
    change(directory);
    return directory;
  }

  test("says that all is well, as text and as JSON", async () => {
    const directory = write();
    const text = await tunesmith(["verify", directory]);
    expect([text.code, text.out.split("\n")[0]]).toEqual([0, "All 2 files are those of the certificate."]);
    const json = await tunesmith(["verify", directory, "--json"]);
    expect(JSON.parse(json.out)).toMatchObject({ verified: true, faults: [], model: MODEL, format: "peft" });
  });

  test.each<[string, (directory: string) => void, string]>([
    [
      "one flipped bit",
      (directory) => {
        const bytes = readFileSync(join(directory, "README.md"));
        bytes[3] = (bytes[3] as number) ^ 1;
        writeFileSync(join(directory, "README.md"), bytes);
      },
      "README.md: sha256",
    ],
    ["a missing file", (directory) => rmSync(join(directory, "README.md")), "README.md: missing"],
    [
      "a file too much",
      (directory) => writeFileSync(join(directory, ".more"), ""),
      ".more: not in the certificate",
    ],
    [
      "a longer file",
      (directory) => writeFileSync(join(directory, "README.md"), "# A model\n\n"),
      "11 bytes",
    ],
    [
      "a link in place of a file",
      (directory) => {
        cpSync(join(directory, "README.md"), join(folder, "elsewhere"));
        rmSync(join(directory, "README.md"));
        symlinkSync(join(folder, "elsewhere"), join(directory, "README.md"));
      },
      "README.md: not a plain file",
    ],
  ])("fails on %s", async (_name, change, fault) => {
    const directory = write(change);
    const result = await tunesmith(["verify", directory, "--json"]);
    expect(result.code).toBe(1);
    const { verified, faults } = JSON.parse(result.out) as { verified: boolean; faults: string[] };
    expect(verified).toBe(false);
    expect(faults.join()).toContain(fault);
  });

  test.each<[string, (directory: string) => void, string]>([
    ["no certificate", (directory) => rmSync(join(directory, "certificate.json")), "found none"],
    [
      "a certificate of something else",
      (directory) => writeFileSync(join(directory, "certificate.json"), "{}"),
      '"object" is wrong',
    ],
    [
      "a certificate that is no JSON",
      (directory) => writeFileSync(join(directory, "certificate.json"), "x"),
      "no JSON",
    ],
  ])("cannot judge a folder with %s", async (_name, change, message) => {
    const result = await tunesmith(["verify", write(change)]);
    expect(result.code).toBe(2);
    expect(result.err).toContain(message);
  });
});
