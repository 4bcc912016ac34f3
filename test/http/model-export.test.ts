// GET /tunesmith/models/{model}/export: the archive and what is in it, its refusals, its limit, and who may ask.
import { existsSync, mkdirSync, mkdtempSync, readdirSync, writeFileSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { Readable } from "node:stream";
import { expect, test } from "vitest";
import { makeTinyModel } from "../../scripts/make-tiny-model.ts";
import { unpackInto } from "../../src/export/archive.ts";
import { verifyExport } from "../../src/export/verify.ts";
import { Cancelled, UnsupportedModel } from "../../src/errors.ts";
import { adapterShapes, writeAdapter } from "../../src/model/adapter.ts";
import { openBaseModel, sha256OfModel } from "../../src/model/base-model.ts";
import type { ServerOverrides } from "../../src/main.ts";
import { createRandom } from "../../src/random.ts";
import { DEFAULT_PROJECT } from "../../src/wire/ids.ts";
import { BASE_MODEL, createKey, succeedJob, testServer, upload } from "./harness.ts";
import type { TestServer } from "./harness.ts";

const row = (i: number) =>
  JSON.stringify({
    messages: [
      { role: "user", content: `Question ${i}` },
      { role: "assistant", content: `The answer ${i}` },
    ],
  });

/** A server with a model whose adapter and recipe are on disk as a job leaves them. */
async function withModel(overrides: ServerOverrides = {}) {
  const home = mkdtempSync(join(tmpdir(), "tunesmith-model-export-"));
  const path = join(home, "models", BASE_MODEL);
  await makeTinyModel(path);
  const catalogue = {
    list: () => [{ id: BASE_MODEL, created: 1 }],
    isKnown: (id: string) => id === BASE_MODEL,
    resolve: async (id: string) => ({ id, path }),
  };
  const server = await testServer({ homeDirectory: home }, { catalogue, ...overrides });
  const training = await upload(server, Array.from({ length: 10 }, (_, i) => row(i)).join("\n"));
  const job = await server.app.inject({
    method: "POST",
    url: "/v1/fine_tuning/jobs",
    payload: { model: BASE_MODEL, training_file: training.id },
  });
  const jobId = job.json<{ id: string }>().id;
  const names = await succeedJob(server, jobId);
  const opened = await openBaseModel(path);
  await opened.close();
  const random = createRandom(5);
  for (const id of Object.values(names)) {
    const stored = await server.stores.models.get(DEFAULT_PROJECT, id);
    const plan = {
      rank: 2,
      alpha: 4,
      dropout: 0,
      targetModules: ["q_proj" as const],
      baseModelId: BASE_MODEL,
    };
    const shapes = [...adapterShapes(opened.config, plan)];
    const tensors = new Map(
      shapes.map(([name, shape]) => [
        name,
        { shape, data: Float32Array.from({ length: shape[0] * shape[1] }, () => random.next() - 0.5) },
      ]),
    );
    mkdirSync(dirname(stored?.adapterDirectory ?? ""), { recursive: true });
    await writeAdapter(stored?.adapterDirectory ?? "", { ...plan, tensors });
  }
  const recipe = {
    version: 1,
    jobId,
    baseModel: { id: BASE_MODEL, path, sha256: await sha256OfModel(path) },
    method: "supervised",
    trainingData: { file: "training.jsonl", sha256: "a".repeat(64) },
    validationData: null,
  };
  writeFileSync(join(home, "jobs", jobId, "job.json"), JSON.stringify(recipe));
  return { server, home, ...names };
}

const ask = (server: TestServer, model: string, query: string, headers: Record<string, string> = {}) =>
  server.app.inject({ url: `/tunesmith/models/${encodeURIComponent(model)}/export?${query}`, headers });

test("the archive of a model, and of a checkpoint, holds what its certificate says, and leaves nothing on the server", async () => {
  const { server, home, model, checkpoint } = await withModel();
  for (const [id, query, format] of [
    [model, "format=peft", "peft"],
    [checkpoint, "format=gguf&precision=q8_0", "gguf"],
  ] as const) {
    const answer = await ask(server, id, query);
    expect(answer.body.slice(0, 300)).not.toContain('"error"');
    expect(answer.statusCode).toBe(200);
    expect(answer.headers["content-type"]).toBe("application/x-tar");
    expect(answer.headers["content-disposition"]).toMatch(/^attachment; filename="ft-[\w.-]+\.tar"$/);
    const directory = await mkdtemp(join(tmpdir(), "tunesmith-unpacked-"));
    await unpackInto(directory, Readable.from([answer.rawPayload]));
    const { certificate, faults } = await verifyExport(directory);
    expect(faults).toEqual([]);
    expect(certificate).toMatchObject({
      model: id,
      format,
      base_model: { id: BASE_MODEL },
      data: { training: "a".repeat(64), validation: null },
      recipe: { method: "supervised", baseModel: { id: BASE_MODEL } },
      distance: { prompts_from: { training_file: 10, built_in: 10 } },
    });
    // Where the base model lies here is nobody's business.
    expect(JSON.stringify(certificate)).not.toContain(home);
    expect(certificate.versions).toHaveProperty("onnxruntime");
  }
  await expect.poll(() => readdirSync(join(home, "exports"))).toEqual([]);
});

test.each([
  ["", "format", "missing_required_parameter"],
  ["format=onnx", "format", "invalid_value"],
  ["format=merged&precision=q8_0", "precision", "invalid_value"],
  ["format=peft&precision=f16", "precision", "invalid_value"],
  ["format=gguf&precision=int3", "precision", "invalid_value"],
  ["format=peft&flavour=1", "flavour", "unknown_parameter"],
])("?%s is refused by name", async (query, param, code) => {
  const { server, model } = await withModel();
  const answer = await ask(server, model, query);
  expect(answer.statusCode).toBe(400);
  expect(answer.json()).toMatchObject({ error: { param, code } });
});

test("an unknown model is not found, a base model is refused", async () => {
  const { server, home, model } = await withModel();
  const unknown = await ask(server, `${model}x`, "format=peft");
  expect([unknown.statusCode, unknown.json<{ error: { code: string } }>().error.code]).toEqual([
    404,
    "model_not_found",
  ]);
  const base = await ask(server, BASE_MODEL, "format=peft");
  expect([base.statusCode, base.json<{ error: { param: string } }>().error.param]).toEqual([400, "model"]);
  expect(existsSync(join(home, "exports"))).toBe(false);
});

test("one export at a time; a refused one makes room for the next; HEAD makes none", async () => {
  let asked = 0;
  let release: (error: Error) => void = () => undefined;
  const runExport = () => {
    asked += 1;
    return new Promise<never>((_resolve, reject) => (release = reject));
  };
  const { server, model } = await withModel({ runExport });
  const head = await server.app.inject({
    method: "HEAD",
    url: `/tunesmith/models/${model}/export?format=peft`,
  });
  expect([head.statusCode, head.headers["content-type"], asked]).toEqual([200, "application/x-tar", 0]);
  for (let round = 1; round <= 2; round++) {
    const first = ask(server, model, "format=peft");
    await expect.poll(() => asked).toBe(round);
    const second = await ask(server, model, "format=peft");
    expect(second.statusCode).toBe(503);
    expect(second.headers["content-disposition"]).toBeUndefined();
    release(
      new UnsupportedModel("Too far from the trained model.", { code: "export_too_far", param: "precision" }),
    );
    const refused = await first;
    expect([refused.statusCode, refused.json<{ error: { code: string } }>().error.code]).toEqual([
      400,
      "export_too_far",
    ]);
  }
});

test("a client that leaves ends the work and makes room for the next", async () => {
  const signals: AbortSignal[] = [];
  const runExport: ServerOverrides["runExport"] = ({ signal }) =>
    new Promise((_resolve, reject) => {
      signals.push(signal);
      signal.addEventListener("abort", () => reject(new Cancelled()));
    });
  const { server, model } = await withModel({ runExport });
  const url = await server.listen();
  for (let round = 1; round <= 2; round++) {
    const client = new AbortController();
    const asked = fetch(`${url}/tunesmith/models/${model}/export?format=peft`, { signal: client.signal });
    await expect.poll(() => signals.length).toBe(round);
    client.abort();
    await expect(asked).rejects.toThrow();
    await expect.poll(() => signals.at(-1)?.aborted).toBe(true);
  }
});

test("a key may export with the scope read, and only its own project's models, whatever it may use", async () => {
  const runExport = () => Promise.reject(new UnsupportedModel("asked"));
  const { server, model } = await withModel({ runExport });
  const admin = await createKey(server, { scopes: ["admin", "read"] });
  const bearer = (key: string) => ({ authorization: `Bearer ${key}` });
  const other = await server.app.inject({
    method: "POST",
    url: "/tunesmith/projects",
    payload: { name: "other" },
    headers: bearer(admin.key),
  });
  const otherId = other.json<{ id: string }>().id;
  const granted = await server.app.inject({
    method: "POST",
    url: `/v1/fine_tuning/checkpoints/${encodeURIComponent(model)}/permissions`,
    payload: { project_ids: [otherId] },
    headers: bearer(admin.key),
  });
  expect(granted.statusCode).toBe(200);
  const statusFor = async (body: object) => {
    const { key } = await createKey(server, body, admin.key);
    return (await ask(server, model, "format=peft", bearer(key))).statusCode;
  };
  expect(await statusFor({ scopes: ["read"] })).toBe(400);
  expect(await statusFor({ scopes: ["infer"] })).toBe(403);
  expect(await statusFor({ scopes: ["read"], project_id: otherId })).toBe(404);
});

test("what a killed server left of exports is gone when the next one starts", async () => {
  const home = mkdtempSync(join(tmpdir(), "tunesmith-model-export-"));
  mkdirSync(join(home, "exports", "x"), { recursive: true });
  writeFileSync(join(home, "exports", "x", "half"), "x");
  await testServer({ homeDirectory: home });
  expect(existsSync(join(home, "exports"))).toBe(false);
});
