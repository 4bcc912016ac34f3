// Which folders under models are base models that clients may name.
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { loadConfig } from "../config.ts";
import { baseModelCatalogue } from "./base-models.ts";

it("links to folders are listed, and no folder whose name cannot be asked for, nor what leads nowhere", async () => {
  const homeDirectory = await mkdtemp(join(tmpdir(), "base-models-test-"));
  try {
    const models = join(homeDirectory, "models");
    await mkdir(join(homeDirectory, "elsewhere"));
    for (const name of ["mine", "with space", ".hidden"])
      await mkdir(join(models, name), { recursive: true });
    await symlink(join(homeDirectory, "elsewhere"), join(models, "linked"));
    await symlink(join(homeDirectory, "nowhere"), join(models, "dangling"));
    await writeFile(join(models, "a-file"), "");
    const catalogue = baseModelCatalogue({ ...loadConfig(), homeDirectory });
    const ids = catalogue.list().map(({ id }) => id);
    expect(ids).toEqual(expect.arrayContaining(["mine", "linked"]));
    for (const name of ["with space", ".hidden", "dangling", "a-file"]) expect(ids).not.toContain(name);
    expect(catalogue.isKnown("linked")).toBe(true);
  } finally {
    await rm(homeDirectory, { recursive: true });
  }
});
