// The quickstart starts its own server, so it is let in also where the home folder or the settings have keys.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import OpenAI from "openai";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { createOwnServer } from "../../examples/ticket-triage/own-server.ts";
import { DEFAULT_PROJECT } from "../../src/wire/ids.ts";

let home: string;
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), "tunesmith-own-server-"));
  vi.stubEnv("TUNESMITH_HOME", home);
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(home, { recursive: true });
});

test("with a key in the settings", async () => {
  vi.stubEnv("TUNESMITH_API_KEYS", "key-of-the-settings");
  const { server, listen } = await createOwnServer();
  try {
    const client = await listen();
    await expect(client.files.list()).resolves.toMatchObject({ data: [] });
    const { baseURL } = client;
    const other = new OpenAI({ baseURL, apiKey: "key-of-the-settings" });
    await expect(other.files.list()).resolves.toMatchObject({ data: [] });
    const stranger = new OpenAI({ baseURL, apiKey: "not-needed" });
    await expect(stranger.files.list()).rejects.toThrow("Incorrect API key");
  } finally {
    await server.stop();
  }
});

test("with an admin key in the home folder", async () => {
  const { server, listen } = await createOwnServer();
  try {
    await server.stores.keys.create(
      {
        projectId: DEFAULT_PROJECT,
        name: null,
        scopes: ["admin"],
        requestsPerMinute: null,
        tokensPerMinute: null,
      },
      false,
    );
    const client = await listen();
    await expect(client.files.list()).resolves.toMatchObject({ data: [] });
    const stranger = new OpenAI({ baseURL: client.baseURL, apiKey: "not-needed" });
    await expect(stranger.files.list()).rejects.toThrow("Incorrect API key");
  } finally {
    await server.stop();
  }
});
