// POST /tunesmith/models/import: adapters and whole models that come in, to whom they belong, and what is left when they do not.
import { existsSync, mkdirSync, readdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { request } from "node:http";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { makeTinyModel } from "../../scripts/make-tiny-model.ts";
import { DEFAULT_PROJECT } from "../../src/wire/ids.ts";
import { tunesmith } from "../cli/fake-server.ts";
import { archiveOf, entriesOf, packed } from "../export/packed.ts";
import { exported, randomAdapter, temporaryFolder, tinyModel, unmeasured } from "../export/tiny-export.ts";
import { createKey } from "./harness.ts";
import { entry, importServer, leftOver, NOTHING, send, without } from "./import-harness.ts";

let base: string;
/** As PEFT leaves it. */
let adapter: string;
let peft: string;
let gguf: string;
let merged: string;
let ggufAdapter: string;

beforeAll(async () => {
  base = await tinyModel();
  ({ directory: adapter } = await randomAdapter(base));
  const make = async (format: "peft" | "gguf-adapter" | "gguf" | "merged", precision: "f16" | "f32" | null) =>
    (
      await exported(
        { base, adapterDirectory: adapter, format, precision, model: "ft:tiny:acme:sup-port:abcdefgh" },
        unmeasured,
      )
    ).directory;
  peft = await make("peft", null);
  ggufAdapter = await make("gguf-adapter", null);
  gguf = await make("gguf", "f16");
  merged = await make("merged", "f32");
});

describe("an adapter", () => {
  test("of PEFT becomes a fine-tuned model of the project, with its plan", async () => {
    const server = await importServer(base);
    const { status, body } = await send(server, await packed(adapter), { name: "my bot" });
    expect(body).toMatchObject({
      object: "tunesmith.imported_model",
      id: expect.stringMatching(/^ft:tiny:personal:my-bot:[A-Za-z0-9]{8}$/) as string,
      kind: "adapter",
      format: "peft",
      base_model: "tiny",
      lora: { rank: 3, alpha: 7, dropout: 0 },
      certificate: null,
      files: 2,
    });
    expect(status).toBe(200);
    expect(body.lora?.target_modules).toHaveLength(7);
    const stored = await server.stores.models.get(DEFAULT_PROJECT, body.id);
    expect(stored).toMatchObject({ jobId: null, baseModel: "tiny", requestedModel: "tiny" });
    const kept = stored?.adapterDirectory ?? "";
    expect(readdirSync(kept).sort()).toEqual([
      "adapter_config.json",
      "adapter_model.safetensors",
      "import.json",
    ]);
    for (const name of ["adapter_config.json", "adapter_model.safetensors"])
      expect(readFileSync(join(kept, name))).toEqual(readFileSync(join(adapter, name)));
    const listed = await server.app.inject({ url: "/v1/models" });
    expect(listed.json<{ data: unknown[] }>().data[0]).toMatchObject({ id: body.id, owned_by: "personal" });
    const deleted = await server.app.inject({ method: "DELETE", url: `/v1/models/${body.id}` });
    expect(deleted.statusCode).toBe(200);
    expect(leftOver(server)).toEqual(NOTHING);
  });

  test("that was exported here keeps its suffix and its certificate", async () => {
    const server = await importServer(base);
    for (const [directory, format] of [
      [peft, "peft"],
      [ggufAdapter, "gguf-adapter"],
    ] as const) {
      const { body } = await send(server, await packed(directory));
      expect(body.id).toMatch(/^ft:tiny:personal:sup-port:/);
      expect(body).toMatchObject({
        format,
        certificate: { model: "ft:tiny:acme:sup-port:abcdefgh", format, precision: null },
      });
      const stored = await server.stores.models.get(DEFAULT_PROJECT, body.id);
      const kept = stored?.adapterDirectory ?? "";
      expect(readFileSync(join(kept, "certificate.json"))).toEqual(
        readFileSync(join(directory, "certificate.json")),
      );
      // The same numbers, whichever file they came in.
      expect(readFileSync(join(kept, "adapter_model.safetensors"))).toEqual(
        readFileSync(join(adapter, "adapter_model.safetensors")),
      );
    }
  });

  test("whose base model is not known here is refused with those that are; 'base' names one", async () => {
    const server = await importServer(base);
    const config = JSON.parse(readFileSync(join(adapter, "adapter_config.json"), "utf8")) as object;
    const text = JSON.stringify({ ...config, base_model_name_or_path: "/data/acme-7b" });
    const archive = await archiveOf([
      ...without(await entriesOf(adapter), "adapter_config.json"),
      entry("adapter_config.json", text),
    ]);
    const refused = await send(server, archive);
    expect(refused.status).toBe(400);
    expect(refused.body.error).toMatchObject({ code: "unknown_base_model", param: "base" });
    expect(refused.body.error.message).toMatch(/'\/data\/acme-7b'.*tiny/);
    const unknown = await send(server, archive, { base: "nobody" });
    expect(unknown.body.error).toMatchObject({ code: "unknown_base_model", param: "base" });
    expect(leftOver(server)).toEqual(NOTHING);
    expect((await send(server, archive, { base: "tiny" })).body.base_model).toBe("tiny");
  });

  test("of a known base model is found by its id on the hub", async () => {
    const home = await temporaryFolder();
    await makeTinyModel(join(home, "models", "smollm2-360m-instruct"));
    const server = await importServer(base, {}, home);
    const config = JSON.parse(readFileSync(join(adapter, "adapter_config.json"), "utf8")) as object;
    const text = JSON.stringify({
      ...config,
      base_model_name_or_path: "HuggingFaceTB/SmolLM2-360M-Instruct",
    });
    const archive = await archiveOf([
      ...without(await entriesOf(adapter), "adapter_config.json"),
      entry("adapter_config.json", text),
    ]);
    expect((await send(server, archive)).body.base_model).toBe("smollm2-360m-instruct");
  });
});

describe("a whole model", () => {
  test.each(["merged", "gguf"] as const)("as %s becomes a base model under its name", async (kind) => {
    const server = await importServer(base);
    const directory = kind === "merged" ? merged : gguf;
    const { status, body } = await send(server, await packed(directory), { name: "my-model" });
    expect(body).toMatchObject({
      id: "my-model",
      kind: "base_model",
      format: kind === "merged" ? "huggingface" : "gguf",
      base_model: "my-model",
      lora: null,
      certificate: { format: kind },
    });
    expect(status).toBe(200);
    expect(leftOver(server)).toEqual(["models/my-model", "models/tiny"]);
    const found = await server.app.inject({ url: "/v1/models/my-model" });
    expect(found.json()).toMatchObject({ id: "my-model", tunesmith: { base_model: "my-model" } });
    // An adapter for it, in turn.
    const onIt = await send(server, await packed(adapter), { base: "my-model" });
    expect(onIt.body.id).toMatch(/^ft:my-model:personal::/);
    const again = await send(server, await packed(directory), { name: "My-Model" });
    expect([again.status, again.body.error.code, again.body.error.param]).toEqual([
      409,
      "model_exists",
      "name",
    ]);
  });

  test.each<[Record<string, string>, number, string, string]>([
    [{}, 400, "missing_required_parameter", "name"],
    [{ name: "../evil" }, 400, "invalid_value", "name"],
    [{ name: ".hidden" }, 400, "invalid_value", "name"],
    [{ name: "a b" }, 400, "invalid_value", "name"],
    [{ name: "tiny" }, 409, "model_exists", "name"],
    [{ name: "Smollm2-135m-instruct" }, 409, "model_exists", "name"],
    [{ name: "all-minilm-l6-v2" }, 409, "model_exists", "name"],
    [{ name: "fine", base: "tiny" }, 400, "invalid_value", "base"],
  ])("with %j is refused", async (query, status, code, param) => {
    const received = await temporaryFolder();
    const contents = {
      ...({ kind: "base_model", format: "gguf" } as const),
      ...{ certificate: null, files: 1, bytes: 1 },
    };
    const unasked = () => Promise.reject(new Error("was not to be asked"));
    const importer = {
      begin: async () => ({
        received,
        contents: async () => ({ ...contents, baseNames: [] }),
        checkAdapter: unasked,
        checkModel: unasked,
        keepAdapter: unasked,
        keepModel: unasked,
        remove: async () => undefined,
      }),
    };
    const server = await importServer(base, { importer });
    const answer = await send(server, await archiveOf([]), query);
    expect([answer.status, answer.body.error.code, answer.body.error.param]).toEqual([status, code, param]);
  });
});

describe("who may", () => {
  test("train imports adapters, admin whole models, others nothing; a project sees its own only", async () => {
    const server = await importServer(base);
    const admin = await createKey(server, { scopes: ["admin", "train"] });
    const bearer = (key: string) => ({ authorization: `Bearer ${key}` });
    const key = async (body: object) => bearer((await createKey(server, body, admin.key)).key);
    const other = await server.app.inject({
      method: "POST",
      url: "/tunesmith/projects",
      payload: { name: "other" },
      headers: bearer(admin.key),
    });
    const project_id = other.json<{ id: string }>().id;
    const reader = await send(server, await packed(adapter), {}, await key({ scopes: ["read", "infer"] }));
    expect(reader.status).toBe(403);
    const trainer = await key({ scopes: ["train"] });
    const own = await send(server, await packed(adapter), {}, trainer);
    expect(own.status).toBe(200);
    const whole = await send(server, await packed(gguf), { name: "whole" }, trainer);
    expect([whole.status, whole.body.error.message]).toEqual([
      403,
      expect.stringContaining("Missing scopes: admin"),
    ]);
    expect(readdirSync(join(server.home, "models"))).toEqual(["tiny"]);
    expect((await send(server, await packed(gguf), { name: "whole" }, bearer(admin.key))).status).toBe(200);
    const foreign = await key({ scopes: ["read", "train"], project_id });
    const seen = await server.app.inject({ url: `/v1/models/${own.body.id}`, headers: foreign });
    expect(seen.statusCode).toBe(404);
    const common = await server.app.inject({ url: "/v1/models/whole", headers: foreign });
    expect(common.statusCode).toBe(200);
    const theirs = await send(server, await packed(adapter), {}, foreign);
    const mine = await server.app.inject({
      url: `/v1/models/${theirs.body.id}`,
      headers: await key({ scopes: ["read"] }),
    });
    expect(mine.statusCode).toBe(404);
  });

  test("an Idempotency-Key imports once", async () => {
    const server = await importServer(base);
    const headers = { "idempotency-key": "one" };
    const first = await send(server, await packed(adapter), {}, headers);
    const second = await send(server, await packed(adapter), {}, headers);
    expect(second.body).toEqual(first.body);
    expect(readdirSync(join(server.home, "adapters"))).toHaveLength(1);
    const other = await send(server, await packed(adapter), { name: "x" }, headers);
    expect([other.status, other.body.error.code]).toEqual([400, "idempotency_key_reused"]);
    expect(readdirSync(join(server.home, "adapters"))).toHaveLength(1);
  });
});

test("over a socket: a refusal comes before the rest was sent, and a client that leaves leaves nothing", async () => {
  const server = await importServer(base);
  const url = await server.listen();
  // One that begins and then hesitates.
  const first = request(`${url}/tunesmith/models/import`, {
    method: "POST",
    headers: { "content-type": "application/x-tar" },
  });
  first.on("error", () => undefined);
  first.write((await packed(adapter)).subarray(0, 4000));
  const imports = join(server.home, "imports");
  await expect.poll(() => existsSync(imports) && readdirSync(imports).length).toBe(1);
  const big = join(await temporaryFolder(), "big.gguf");
  writeFileSync(big, "");
  truncateSync(big, 64 * 2 ** 30);
  const second = await tunesmith(["models", "import", big, "--base-url", `${url}/v1`]);
  expect([second.code, second.err]).toEqual([1, expect.stringContaining("takes 1 import at a time")]);
  first.destroy();
  await expect.poll(() => leftOver(server), { timeout: 10_000 }).toEqual(NOTHING);
  const third = await tunesmith(["models", "import", adapter, "--base-url", `${url}/v1`]);
  expect([third.code, third.out]).toEqual([0, expect.stringMatching(/^ft:tiny:personal::/)]);
});

test("what a killed server left of imports is gone when the next one starts, and what it had finished stays", async () => {
  const home = await temporaryFolder();
  const first = await importServer(base, {}, home);
  const { body } = await send(first, await packed(adapter));
  await first.stop();
  // Killed while it received, between a folder's place and its row, and while it moved a model to another disk.
  for (const path of ["imports/x/import", "adapters/half", "models/.big.123-0123abcd.tmp"]) {
    mkdirSync(join(home, path), { recursive: true });
    writeFileSync(join(home, path, "half"), "x");
  }
  const second = await importServer(base, {}, home);
  const stored = await second.stores.models.get(DEFAULT_PROJECT, body.id);
  expect(leftOver(second)).toEqual([stored?.adapterDirectory.slice(home.length + 1), "models/tiny"]);
  await rm(home, { recursive: true, force: true });
});
