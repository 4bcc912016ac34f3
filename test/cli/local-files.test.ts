// What lies under a name and is no regular file: pipes and devices are read or refused as such, and neither they nor links
// are replaced by a download.
import { execFileSync } from "node:child_process";
import { chmodSync, lstatSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { symlinkSync, writeFileSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { startFakeServer, tunesmith, type Answer } from "./fake-server.ts";

const FILE = {
  object: "file",
  id: "file-abc",
  purpose: "fine-tune",
  filename: "train.jsonl",
  bytes: 5,
  created_at: 1_790_000_000,
  expires_at: null,
  status: "processed",
  status_details: null,
};
const CONTENT: Record<string, Answer> = {
  "GET /v1/files/file-abc": FILE,
  "GET /v1/files/file-abc/content": (response) => response.end("hello"),
};

let folder: string;
let close: () => Promise<unknown> = async () => undefined;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tunesmith-cli-"));
});
afterEach(async () => {
  rmSync(folder, { recursive: true });
  await close();
});

async function download(target: string) {
  const server = await startFakeServer(CONTENT);
  close = server.close;
  return tunesmith(["files", "content", "file-abc", "-o", target, "--base-url", server.baseUrl]);
}

const canMakePipes = process.platform !== "win32";

function pipe(name: string): string {
  const path = join(folder, name);
  execFileSync("mkfifo", [path]);
  return path;
}

test.skipIf(!canMakePipes)("a download goes through a pipe, which stays one", async () => {
  const path = pipe("pipe");
  const reading = readFile(path, "utf8");
  expect(await download(path)).toMatchObject({ code: 0, out: `Wrote ${path}\n` });
  expect(await reading).toBe("hello");
  expect(lstatSync(path).isFIFO()).toBe(true);
  expect(readdirSync(folder)).toEqual(["pipe"]);
});

/** Null where this user may make none. */
function nullDevice(path: string): string | null {
  try {
    execFileSync("mknod", [path, "c", "1", "3"], { stdio: "ignore" });
    writeFileSync(path, "");
    return path;
  } catch {
    return null;
  }
}

test("a download into a device leaves it a device, where this user may make one", async (context) => {
  const path = nullDevice(join(folder, "null"));
  if (path === null) return context.skip("this user may make no device");
  expect(await download(path)).toMatchObject({ code: 0, out: `Wrote ${path}\n` });
  expect(lstatSync(path).isCharacterDevice()).toBe(true);
  expect(readdirSync(folder)).toEqual(["null"]);
});

test.skipIf(process.platform === "win32")(
  "of a link, the file it leads to is replaced, with its permissions",
  async () => {
    const [file, link] = [join(folder, "file"), join(folder, "link")];
    writeFileSync(file, "old");
    chmodSync(file, 0o600);
    symlinkSync("file", link);
    expect(await download(link)).toMatchObject({ code: 0 });
    expect(lstatSync(link).isSymbolicLink()).toBe(true);
    expect(readFileSync(file, "utf8")).toBe("hello");
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(readdirSync(folder)).toEqual(["file", "link"]);
  },
);

test.skipIf(process.platform === "win32")("a link may lead to a file that is not there yet", async () => {
  symlinkSync("file", join(folder, "link"));
  expect(await download(join(folder, "link"))).toMatchObject({ code: 0 });
  expect(readdirSync(folder)).toEqual(["file", "link"]);
  expect(lstatSync(join(folder, "link")).isSymbolicLink()).toBe(true);
});

test("a download into a folder or under no name is refused", async () => {
  const into = await download(folder);
  expect(into.code).toBe(2);
  expect(into.err).toBe(
    `tunesmith: Cannot write "${folder}": expected the name of a file, found a folder. Name another.\n`,
  );
  await close();
  const nameless = await download("");
  expect(nameless.code).toBe(2);
  expect(nameless.err).toContain("Expected the name of a file to write to, found an empty one.");
});

test("--fix writes no mended copy over a device, where this user may make one", async (context) => {
  const path = nullDevice(join(folder, "null"));
  if (path === null) return context.skip("this user may make no device");
  const data = join(folder, "data.jsonl");
  writeFileSync(data, "{}\n");
  const { code, err } = await tunesmith(["check", data, "--fix", path]);
  expect(code).toBe(2);
  expect(err).toContain("found a pipe or device");
  expect(lstatSync(path).isCharacterDevice()).toBe(true);
});

test.skipIf(!canMakePipes)("an upload reads a pipe to its end", async () => {
  const server = await startFakeServer({ "POST /v1/files": FILE });
  close = server.close;
  const path = pipe("rows");
  const [uploaded] = await Promise.all([
    tunesmith(["files", "upload", path, "--base-url", server.baseUrl]),
    writeFile(path, "what the pipe holds"),
  ]);
  expect(uploaded.code).toBe(0);
  expect(server.asked[0]?.body).toContain("\r\n\r\nwhat the pipe holds\r\n");
});

test.skipIf(!canMakePipes)("a pipe that brings too much is refused", async () => {
  const server = await startFakeServer({ "POST /v1/files": FILE });
  close = server.close;
  const path = pipe("rows");
  const [uploaded] = await Promise.all([
    tunesmith(["files", "upload", path, "--base-url", server.baseUrl]),
    writeFile(path, Buffer.alloc(80 * 1024 * 1024)).catch((error: NodeJS.ErrnoException) =>
      expect(error.code).toBe("EPIPE"),
    ),
  ]);
  expect(uploaded.code).toBe(2);
  expect(uploaded.err).toContain("more than 67,108,864 bytes come through the pipe");
  expect(server.asked).toEqual([]);
});

test.skipIf(process.platform === "win32")("an upload of a device is refused", async () => {
  const server = await startFakeServer({ "POST /v1/files": FILE });
  close = server.close;
  const { code, err } = await tunesmith(["files", "upload", "/dev/zero", "--base-url", server.baseUrl]);
  expect(code).toBe(2);
  expect(err).toBe(
    'tunesmith: Cannot read "/dev/zero": expected a file or a pipe, found a device. Check the path.\n',
  );
  expect(server.asked).toEqual([]);
});
