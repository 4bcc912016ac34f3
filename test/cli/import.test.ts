// `tunesmith models import`: what it sends, under which name, what it says of it, and how it ends.
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { sendError, startFakeServer, tunesmith, unusedBaseUrl, type Answer } from "./fake-server.ts";

let folder: string;
let close: () => Promise<unknown> = async () => undefined;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tunesmith-cli-"));
});
afterEach(async () => {
  rmSync(folder, { recursive: true });
  await close();
});

const ADAPTER = {
  object: "tunesmith.imported_model",
  id: "ft:tiny:personal::abcdefgh",
  created: 1,
  kind: "adapter",
  format: "peft",
  base_model: "tiny",
  lora: { rank: 8, alpha: 16, dropout: 0, target_modules: ["q_proj", "v_proj"] },
  certificate: { model: "ft:gpt-4o-mini:acme::12345678", format: "peft", precision: null },
  files: 2,
  bytes: 12_345,
};

function write(name: string, files: Record<string, string>): string {
  const path = join(folder, name);
  mkdirSync(path);
  for (const [file, text] of Object.entries(files)) writeFileSync(join(path, file), text);
  return path;
}

async function importTo(path: string, more: string[] = [], isTTY = false, answer: Answer = ADAPTER) {
  const server = await startFakeServer({ "POST /tunesmith/models/import": answer });
  close = server.close;
  const words = ["models", "import", path, ...more, "--base-url", server.baseUrl];
  return { ...(await tunesmith(words, { isTTY })), asked: server.asked };
}

/** Names of the files in an archive that holds texts only. */
const namesIn = (archive: string): string[] =>
  [...archive.matchAll(/([^\0]+)\0+0000644\0/g)].map(([, name = ""]) => name);

describe("what is sent", () => {
  test("of an adapter's folder: its files, without a name; what is no part of it is named and stays", async () => {
    const path = write("my-run", {
      "adapter_config.json": "{}",
      "adapter_model.safetensors": "weights",
      "training_args.bin": "x",
      ".gitattributes": "x",
    });
    mkdirSync(join(path, "checkpoint-10"));
    const { code, out, err, asked } = await importTo(path, ["--base", "tiny"]);
    expect(code).toBe(0);
    expect(asked[0]?.path).toBe("/tunesmith/models/import?base=tiny");
    expect(asked[0]?.headers["content-type"]).toBe("application/x-tar");
    expect(namesIn(asked[0]?.body ?? "")).toEqual(["adapter_config.json", "adapter_model.safetensors"]);
    expect(err).toBe(
      "Not sent, as no part of a model: checkpoint-10, training_args.bin.\n" +
        "Sending 2 files, 9 bytes.\n" +
        "The server checks every value; for a large model this takes minutes.\n",
    );
    expect(out).toBe(
      [
        "ft:tiny:personal::abcdefgh",
        "kind         fine-tuned model",
        "format       peft",
        "base model   tiny",
        "LoRA         rank 8, alpha 16, 2 modules: q_proj, v_proj",
        "certificate  of ft:gpt-4o-mini:acme::12345678, as peft",
        "files        2, 12,345 bytes",
        "",
      ].join("\n"),
    );
  });

  test("of an export: every file, since the certificate names them", async () => {
    const certificate = JSON.stringify({ format: "gguf-adapter" }, null, 2);
    const path = write("out", {
      "adapter.gguf": "x",
      "README.md": "#",
      "odd.bin": "x",
      "certificate.json": certificate,
    });
    const { asked } = await importTo(path);
    expect(asked[0]?.path).toBe("/tunesmith/models/import");
    expect(namesIn(asked[0]?.body ?? "")).toEqual([
      "README.md",
      "adapter.gguf",
      "certificate.json",
      "odd.bin",
    ]);
  });

  test.each([
    ["Qwen 3 (mine)", "Qwen-3-mine-"],
    ["_x", "x"],
  ])("of the whole model in %j: under the name %j", async (name, expected) => {
    const path = write(name, { "config.json": "{}", "model.safetensors": "weights" });
    const { asked } = await importTo(path);
    expect(asked[0]?.path).toBe(`/tunesmith/models/import?name=${expected}`);
  });

  test("of a .gguf file, linked or not: the file under its name, and --name before that", async () => {
    writeFileSync(join(folder, "tiny.Q8_0.gguf"), "GGUF");
    symlinkSync(join(folder, "tiny.Q8_0.gguf"), join(folder, "my model.gguf"));
    const plain = await importTo(join(folder, "tiny.Q8_0.gguf"));
    expect(plain.asked[0]?.path).toBe("/tunesmith/models/import?name=tiny.Q8_0");
    expect(namesIn(plain.asked[0]?.body ?? "")).toEqual(["tiny.Q8_0.gguf"]);
    await close();
    const linked = await importTo(join(folder, "my model.gguf"), ["--name", "other"]);
    expect(linked.asked[0]?.path).toBe("/tunesmith/models/import?name=other");
    expect(namesIn(linked.asked[0]?.body ?? "")).toEqual(["model.gguf"]);
  });

  test("of an archive: its bytes", async () => {
    writeFileSync(join(folder, "export.tar"), "bytes of a tar");
    const { asked } = await importTo(join(folder, "export.tar"));
    expect([asked[0]?.path, asked[0]?.body]).toEqual(["/tunesmith/models/import", "bytes of a tar"]);
  });
});

describe("what is said", () => {
  test("on a terminal a bar shows the bytes", async () => {
    const path = write("a", { "adapter_config.json": "{}" });
    const { out } = await importTo(path, [], true);
    expect(out).toMatch(/\[=+\] sent, 100% of 0 MB/);
    expect(out).toContain("ft:tiny:personal::abcdefgh\n");
  });

  test("with --json the answer, and nothing else", async () => {
    const { code, out, err } = await importTo(write("a", { "adapter_config.json": "{}" }), ["--json"]);
    expect([code, err]).toEqual([0, ""]);
    expect(JSON.parse(out)).toEqual(ADAPTER);
  });

  test("of a whole model, that every project has it", async () => {
    const answer = {
      ...ADAPTER,
      id: "m",
      kind: "base_model",
      base_model: "m",
      lora: null,
      certificate: null,
    };
    const { out } = await importTo(write("a", { "config.json": "{}" }), [], false, answer);
    expect(out).toBe(
      "m\nkind    base model, for every project of the server\nformat  peft\nfiles   2, 12,345 bytes\n",
    );
  });
});

describe("how it ends", () => {
  test.each([
    ["nothing of that name", "nowhere"],
    ["something else", "file.txt"],
    ["found none", "empty"],
  ])("a path with %s is a fault of the command line", async (found, name) => {
    writeFileSync(join(folder, "file.txt"), "");
    mkdirSync(join(folder, "empty"));
    const { code, err, asked } = await importTo(join(folder, name));
    expect([code, asked]).toEqual([2, []]);
    expect(err).toContain(found);
  });

  test("what the server refuses is passed on, with exit code 1; no server, with 3", async () => {
    const path = write("a", { "adapter_config.json": "{}" });
    const refusal = sendError(400, "No base model here is known as 'x'.", "unknown_base_model");
    const refused = await importTo(path, [], false, refusal);
    expect([refused.code, refused.err.split("\n").at(-2)]).toEqual([
      1,
      "tunesmith: No base model here is known as 'x'.",
    ]);
    const nobody = await tunesmith(["models", "import", path, "--base-url", await unusedBaseUrl()]);
    expect(nobody.code).toBe(3);
  });

  test("a refusal that comes before everything was sent is shown", async () => {
    const body = { error: { message: "too large", type: "invalid_request_error", param: null, code: null } };
    const server = createServer((_request, response) => {
      response.writeHead(413, { "content-type": "application/json" });
      response.end(JSON.stringify(body));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    close = () =>
      new Promise((resolve) => {
        server.close(resolve);
        server.closeAllConnections();
      });
    const file = join(folder, "big.gguf");
    writeFileSync(file, "");
    truncateSync(file, 2 ** 30);
    const { port } = server.address() as AddressInfo;
    const words = ["models", "import", file, "--base-url", `http://127.0.0.1:${port}/v1`];
    const { code, err } = await tunesmith(words);
    expect([code, err.split("\n").at(-2)]).toEqual([1, "tunesmith: too large"]);
  });
});
