// Uploads at their limits: large ones use little memory, broken and refused ones leave nothing on the disk.
import { open, readdir } from "node:fs/promises";
import { request } from "node:http";
import { join } from "node:path";
import { expect, test } from "vitest";
import { form, testServer } from "./harness.ts";
import type { TestServer } from "./harness.ts";

const MIB = 2 ** 20;

const blobsOf = (server: TestServer) => readdir(join(server.home, "files")).catch(() => []);

/** A form that is made while it is sent: `mebibytes` of one letter, then the purpose. */
async function* largeForm(mebibytes: number): AsyncGenerator<Buffer> {
  const marker = Buffer.alloc(0);
  const { payload } = form([
    { name: "file", filename: "big.jsonl", content: marker },
    { name: "purpose", value: "fine-tune" },
  ]);
  const split = payload.indexOf("\r\n\r\n") + 4;
  yield payload.subarray(0, split);
  const chunk = Buffer.alloc(MIB, "x");
  for (let index = 0; index < mebibytes; index++) yield chunk;
  yield payload.subarray(split);
}

async function send(url: string, mebibytes: number): Promise<Response> {
  const { headers } = form([]);
  return fetch(`${url}/v1/files`, {
    method: "POST",
    headers,
    body: ReadableStream.from(largeForm(mebibytes)),
    duplex: "half",
  });
}

test("200 MiB go to the disk without growing the memory by 100", async () => {
  const server = await testServer();
  const url = await server.listen();
  await (await send(url, 10)).arrayBuffer();
  const before = process.memoryUsage().rss;
  let peak = before;
  const watch = setInterval(() => (peak = Math.max(peak, process.memoryUsage().rss)), 5);
  const answer = await send(url, 200);
  clearInterval(watch);
  expect(await answer.json()).toMatchObject({ bytes: 200 * MIB, filename: "big.jsonl" });
  expect((peak - before) / MIB).toBeLessThan(100);
});

test("a client that sends too much hears why when it has sent it", async () => {
  const server = await testServer({ maxUploadBytes: 4 * MIB });
  const url = await server.listen();
  const answer = await send(url, 7);
  expect(answer.status).toBe(413);
  expect(await answer.json()).toEqual({
    error: {
      message:
        "File is too large: expected at most 4194304 bytes (4 MB). Send it in parts: POST /v1/uploads.",
      type: "invalid_request_error",
      param: "file",
      code: "file_too_large",
    },
  });
  expect(await blobsOf(server)).toEqual([]);
});

test("a disk that fills up is told, is not the client's to repeat, and leaves nothing", async () => {
  let room = 3 * MIB;
  const server = await testServer(
    {},
    {
      openBlobWriter: async (path) => {
        const handle = await open(path, "wx");
        return {
          write: async (chunk) => {
            room -= chunk.length;
            if (room < 0)
              throw Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC" });
            await handle.writeFile(chunk);
          },
          sync: () => handle.sync(),
          close: () => handle.close(),
        };
      },
    },
  );
  const url = await server.listen();
  const answer = await send(url, 5);
  expect(answer.status).toBe(507);
  expect(answer.headers.get("x-should-retry")).toBe("false");
  expect(await answer.json()).toEqual({
    error: {
      message: `The disk that holds ${join(server.home, "files")} is full, so the file was not stored. Free some space and send it again.`,
      type: "server_error",
      param: null,
      code: "insufficient_storage",
    },
  });
  expect(await blobsOf(server)).toEqual([]);
  room = 100 * MIB;
  expect((await send(url, 1)).status).toBe(200);
});

test("a connection that breaks off leaves nothing, and the server goes on", async () => {
  const server = await testServer();
  const url = await server.listen();
  const { headers } = form([]);
  const sending = request(`${url}/v1/files`, {
    method: "POST",
    headers: { ...headers, "transfer-encoding": "chunked" },
  });
  sending.on("error", () => {});
  let parts = 0;
  for await (const part of largeForm(8)) {
    if (!sending.write(part)) await new Promise((resolve) => sending.once("drain", resolve));
    if (++parts === 5) break;
  }
  while ((await blobsOf(server)).length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  sending.destroy();
  while ((await blobsOf(server)).length > 0) await new Promise((resolve) => setTimeout(resolve, 5));
  expect((await fetch(`${url}/healthz`)).status).toBe(200);
});
