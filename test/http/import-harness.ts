// A server that imports models, with the tiny model as its base model, and what the tests of imports send to it.
import { existsSync, readdirSync } from "node:fs";
import { cp } from "node:fs/promises";
import { join } from "node:path";
import { loadConfig } from "../../src/config.ts";
import type { ServerOverrides } from "../../src/main.ts";
import { baseModelCatalogue } from "../../src/main/base-models.ts";
import type { ImportedModel } from "../../src/wire/import.ts";
import type { Entries } from "../export/packed.ts";
import { temporaryFolder } from "../export/tiny-export.ts";
import { testServer } from "./harness.ts";
import type { TestServer } from "./harness.ts";

/** A server whose base model is the tiny one, under the name `tiny`, as a hand puts it there. */
export async function importServer(
  base: string,
  overrides: ServerOverrides = {},
  home?: string,
): Promise<TestServer> {
  const homeDirectory = home ?? (await temporaryFolder());
  if (!existsSync(join(homeDirectory, "models", "tiny")))
    await cp(base, join(homeDirectory, "models", "tiny"), { recursive: true });
  const catalogue = baseModelCatalogue(loadConfig({ homeDirectory }, {}));
  return testServer({ homeDirectory }, { catalogue, ...overrides });
}

export interface Refusal {
  error: { message: string; param: string | null; code: string | null };
}

export async function send(
  server: TestServer,
  archive: Buffer,
  query: Record<string, string> = {},
  headers: Record<string, string> = {},
) {
  const answer = await server.app.inject({
    method: "POST",
    url: `/tunesmith/models/import?${new URLSearchParams(query).toString()}`,
    headers: { "content-type": "application/x-tar", ...headers },
    payload: archive,
  });
  return { status: answer.statusCode, body: answer.json<ImportedModel & Refusal>() };
}

/** What imports may have left. */
export function leftOver({ home }: TestServer): string[] {
  const inside = (name: string) =>
    existsSync(join(home, name)) ? readdirSync(join(home, name)).map((each) => `${name}/${each}`) : [];
  return [...inside("imports"), ...inside("adapters"), ...inside("models")].sort();
}

export const NOTHING = ["models/tiny"];

export const without = (entries: Entries[number][], ...names: string[]) =>
  entries.filter(({ header }) => !names.includes(header.name));
export const entry = (name: string, body: string | Uint8Array): Entries[number] => ({
  header: { name, size: Buffer.byteLength(body) },
  body,
});
