import { mkdir, mkdtemp, open, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { OutOfSpace } from "../errors.ts";
import { asSpaceError, writeDirectoryAtomically, writeFileAtomically } from "./atomic-write.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "atomic-"));
});
afterEach(async () => {
  vi.restoreAllMocks();
  await rm(folder, { recursive: true });
});

/** Every later write to any file fails as on a full disk. */
async function fillDisk(): Promise<void> {
  const handle = await open(join(folder, "probe"), "w");
  const prototype = Object.getPrototypeOf(handle) as { writeFile: () => Promise<void> };
  await handle.close();
  await rm(join(folder, "probe"));
  vi.spyOn(prototype, "writeFile").mockRejectedValue(
    Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC" }),
  );
}

describe("a file", () => {
  test("replaces the old one", async () => {
    const path = join(folder, "x");
    await writeFile(path, "old");
    await writeFileAtomically(path, ["ne", Buffer.from("w")]);
    expect(await readFile(path, "utf8")).toBe("new");
    expect(await readdir(folder)).toEqual(["x"]);
  });

  test("a full disk is an error that says so; the old file stays and nothing is left behind", async () => {
    const path = join(folder, "x");
    await writeFile(path, "old");
    await fillDisk();
    const error = await writeFileAtomically(path, ["new"]).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(OutOfSpace);
    expect((error as Error).message).toBe(
      `The disk is full: ${path} could not be written (ENOSPC: no space left on device, write). ` +
        "Free some space and try again; nothing half-written was left there.",
    );
    expect(await readFile(path, "utf8")).toBe("old");
    expect(await readdir(folder)).toEqual(["x"]);
  });

  test("other errors come as they are", async () => {
    await expect(writeFileAtomically(join(folder, "none", "x"), ["a"])).rejects.toMatchObject({
      code: "ENOENT",
    });
  });
});

describe("a folder", () => {
  test("appears whole, and replaces an older one with all its files", async () => {
    const path = join(folder, "adapter");
    await mkdir(path);
    await writeFile(join(path, "old"), "old");
    await writeDirectoryAtomically(path, (directory) => writeFile(join(directory, "new"), "new"));
    expect(await readdir(path)).toEqual(["new"]);
    expect(await readdir(folder)).toEqual(["adapter"]);
  });

  test("when filling fails, the older one stays and nothing is left behind", async () => {
    const path = join(folder, "adapter");
    await mkdir(path);
    await writeFile(join(path, "old"), "old");
    await fillDisk();
    const fill = async (directory: string) => {
      await writeFile(join(directory, "first"), "1");
      await writeFileAtomically(join(directory, "second"), ["2"]);
    };
    await expect(writeDirectoryAtomically(path, fill)).rejects.toBeInstanceOf(OutOfSpace);
    expect(await readdir(path)).toEqual(["old"]);
    expect(await readdir(folder)).toEqual(["adapter"]);
  });
});

test.each([
  ["ENOSPC", "The disk is full: x could not be written (why). Free some space and try again;"],
  ["EDQUOT", "The disk quota is used up: x could not be written (why). Free some space and try again;"],
  [
    "EFBIG",
    "A limit on the size of files was reached: x could not be written (why). Raise the limit and try again;",
  ],
])("%s says what to do", (code, message) => {
  const error = asSpaceError(Object.assign(new Error("why"), { code }), "x");
  expect(error).toBeInstanceOf(OutOfSpace);
  expect(error).toMatchObject({
    code: "out_of_space",
    message: `${message} nothing half-written was left there.`,
  });
});

test("other errors pass as they are", () => {
  const error = Object.assign(new Error("why"), { code: "EACCES" });
  expect(asSpaceError(error, "x")).toBe(error);
});
