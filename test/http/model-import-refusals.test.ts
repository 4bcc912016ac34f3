// What POST /tunesmith/models/import refuses: archives that are none or climb out, certificates of other files, other bodies, and more
// than one at a time. What is wrong with weights is test/export/import.test.ts's.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { cp } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { archiveOf, entriesOf, packed, type Entries } from "../export/packed.ts";
import { exported, randomAdapter, tinyModel, unmeasured } from "../export/tiny-export.ts";
import { entry, importServer, leftOver, NOTHING, send, without, type Refusal } from "./import-harness.ts";

let base: string;
/** As PEFT leaves it. */
let adapter: string;
let peft: string;

beforeAll(async () => {
  base = await tinyModel();
  ({ directory: adapter } = await randomAdapter(base));
  ({ directory: peft } = await exported({ base, adapterDirectory: adapter, format: "peft" }, unmeasured));
});

describe("refused", () => {
  test.each<[string, (entries: Entries[number][]) => Entries, RegExp]>([
    ["a path that climbs out", (entries) => [...entries, entry("../evil.json", "{}")], /"\.\.\/evil\.json"/],
    ["an absolute path", (entries) => [...entries, entry("/tmp/evil.json", "{}")], /evil/],
    ["a folder", (entries) => [...entries, entry("a/b.json", "{}")], /"a\/b\.json"/],
    [
      "a link",
      (entries) => [
        ...entries,
        { header: { name: "link.json", size: 0, type: "symlink", linkname: "/etc/passwd" } },
      ],
      /"link\.json" \(symlink\)/,
    ],
    ["a file twice", (entries) => [...entries, entry("adapter_config.json", "{}")], /twice/],
    ["a file twice but for its case", (entries) => [...entries, entry("Adapter_Config.json", "{}")], /twice/],
    ["a program", (entries) => [...entries, entry("modeling.py", "x")], /"modeling\.py"/],
    ["no weights", (entries) => without(entries, "adapter_model.safetensors"), /adapter_model\.safetensors/],
  ])("an archive with %s; nothing is left", async (_name, change, message) => {
    const server = await importServer(base);
    const answer = await send(server, await archiveOf(change(await entriesOf(adapter))));
    expect(answer.status).toBe(400);
    expect(answer.body.error.message).toMatch(message);
    expect(answer.body.error.message).not.toContain(server.home);
    expect(leftOver(server)).toEqual(NOTHING);
    expect(existsSync(join(server.home, "evil.json"))).toBe(false);
  });

  test.each([
    ["in its first header", 100],
    ["in a file", 3000],
    ["before its end", -1000],
  ])("an archive that is cut off %s; nothing is left", async (_name, end) => {
    const server = await importServer(base);
    const archive = await packed(adapter);
    const answer = await send(server, archive.subarray(0, end < 0 ? archive.length + end : end));
    expect([answer.status, answer.body.error.code]).toEqual([400, "invalid_archive"]);
    expect(leftOver(server)).toEqual(NOTHING);
  });

  test("a certificate of other files, and one of another base model", async () => {
    const server = await importServer(base);
    const changed = (await entriesOf(peft)).map((each) =>
      each.header.name === "README.md" ? entry("README.md", "# Another") : each,
    );
    const other = await send(server, await archiveOf(changed));
    expect(other.body.error).toMatchObject({ code: "certificate_mismatch", param: "certificate.json" });
    expect(other.body.error.message).toContain("README.md: ");
    // The same shapes, other weights.
    const path = join(server.home, "models", "twin");
    await cp(base, path, { recursive: true });
    const config = JSON.parse(readFileSync(join(path, "config.json"), "utf8")) as object;
    writeFileSync(join(path, "config.json"), JSON.stringify({ ...config, rope_theta: 12_345 }));
    const twin = await send(server, await packed(peft), { base: "twin" });
    expect([twin.status, twin.body.error.param]).toEqual([400, "base"]);
    expect(twin.body.error.message).toMatch(/trained on tiny with sha256 [0-9a-f]{64}, and twin here has/);
    const bare = without(await entriesOf(peft), "certificate.json");
    expect((await send(server, await archiveOf(bare), { base: "twin" })).status).toBe(200);
    expect(leftOver(server)).toHaveLength(3);
  });

  test("another content type, a query that nobody knows, and a body elsewhere", async () => {
    const server = await importServer(base);
    const json = await server.app.inject({ method: "POST", url: "/tunesmith/models/import", payload: {} });
    expect(json.statusCode).toBe(400);
    expect(json.json<Refusal>().error.message).toContain("application/x-tar");
    const none = await server.app.inject({ method: "POST", url: "/tunesmith/models/import" });
    expect(none.statusCode).toBe(400);
    const query = await send(server, await packed(adapter), { flavour: "1" });
    expect(query.body.error).toMatchObject({ code: "unknown_parameter", param: "flavour" });
    const elsewhere = await server.app.inject({
      method: "POST",
      url: "/v1/chat/completions",
      payload: Buffer.from("x"),
      headers: { "content-type": "application/x-tar" },
    });
    expect(elsewhere.statusCode).toBe(415);
  });

  test("a second import at a time; the first one's end makes room", async () => {
    let release: (error: Error) => void = () => undefined;
    let begun = 0;
    const importer = {
      begin: () => {
        begun += 1;
        return new Promise<never>((_resolve, reject) => (release = reject));
      },
    };
    const server = await importServer(base, { importer });
    const archive = await packed(adapter);
    const first = send(server, archive);
    await expect.poll(() => begun).toBe(1);
    expect((await send(server, archive)).status).toBe(503);
    release(new Error("no disk"));
    expect((await first).status).toBe(500);
    const third = send(server, archive);
    await expect.poll(() => begun).toBe(2);
    release(new Error("no disk"));
    await third;
  });
});
