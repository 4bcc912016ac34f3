// /openapi.json and /docs: what they send, and to whom.
import { describe, expect, it, test } from "vitest";
import { packageVersion } from "../../src/config.ts";
import { OPERATIONS } from "../../src/wire/operations.ts";
import { createKey, testServer } from "./harness.ts";

const ADDRESSES = ["/openapi.json", "/docs"] as const;

test("the document has the version of the package", async () => {
  const { app } = await testServer();
  const answer = await app.inject("/openapi.json");
  expect(answer.headers["content-type"]).toBe("application/json; charset=utf-8");
  expect(answer.json()).toMatchObject({ openapi: "3.1.0", info: { version: packageVersion() } });
});

test("the page shows every operation and loads nothing", async () => {
  const { app } = await testServer();
  const { body, headers } = await app.inject({ url: "/docs", headers: { host: "localhost:8080" } });
  expect(headers["content-type"]).toBe("text/html; charset=utf-8");
  expect(headers["content-security-policy"]).toMatch(/^default-src 'none'; style-src 'sha256-/);
  for (const { id, summary } of OPERATIONS) {
    expect(body).toContain(`<article id="${id}">`);
    expect(body).toContain(summary.replaceAll("'", "&#39;"));
  }
  // Links lead to places on the page or to the document; styles and scripts there are none but the one at the top.
  const links = [...body.matchAll(/ (?:href|src)="([^"]*)"/g)].map(([, target = ""]) => target);
  const anchors = new Set([...body.matchAll(/ id="([^"]*)"/g)].map(([, id = ""]) => `#${id}`));
  expect(links.filter((target) => target !== "/openapi.json" && !anchors.has(target))).toEqual([]);
  expect(body).not.toMatch(/<script|<link|<img|\sstyle=|\son\w+=/);
  expect(body).toContain("curl &quot;http://localhost:8080/v1/models&quot;");
  expect(body).not.toMatch(/\{origin\}|undefined|\[object/);
});

test("a name that is asked for cannot put anything on the page", async () => {
  const { app } = await testServer();
  const key = await createKey({ app } as never, { scopes: ["admin"] });
  const { body } = await app.inject({
    url: "/docs",
    headers: { host: 'x"><b>', authorization: `Bearer ${key.key}`, via: "1.1 proxy" },
  });
  expect(body).not.toContain("<b>");
});

describe.each(ADDRESSES)("%s of a server with keys", (url) => {
  it("answers its own machine, and asks all others for a key, of any scope", async () => {
    const server = await testServer();
    const { key: admin } = await createKey(server, { scopes: ["admin"] });
    const { key } = await createKey(server, { scopes: ["infer"] }, admin);
    const asked = async (remoteAddress: string, headers: Record<string, string> = {}) =>
      (await server.app.inject({ url, headers, remoteAddress })).statusCode;
    for (const own of ["127.0.0.1", "::1", "::ffff:127.0.0.1"]) expect(await asked(own), own).toBe(200);
    expect(await asked("192.0.2.7")).toBe(401);
    expect(await asked("192.0.2.7", { authorization: "Bearer wrong" })).toBe(401);
    expect(await asked("192.0.2.7", { authorization: `Bearer ${key}` })).toBe(200);
  });

  it("asks whoever comes through this machine for a key", async () => {
    const server = await testServer();
    await createKey(server, { scopes: ["admin"] });
    for (const headers of [
      { host: "tunesmith.example.com" },
      { "x-forwarded-for": "192.0.2.7" },
      { "x-real-ip": "192.0.2.7" },
      { forwarded: "for=192.0.2.7" },
      { via: "1.1 proxy" },
      { origin: "https://example.com" },
    ]) {
      const { statusCode } = await server.app.inject({ url, headers: headers as Record<string, string> });
      expect(statusCode, JSON.stringify(headers)).toBe(401);
    }
  });
});

test("no other address is open to its own machine", async () => {
  const server = await testServer();
  await createKey(server, { scopes: ["admin"] });
  expect((await server.app.inject("/v1/models")).statusCode).toBe(401);
});
