// The quickstart's server and a client that it lets in, whatever keys the home folder or the settings have.
import { randomBytes } from "node:crypto";
import OpenAI from "openai";
import { loadConfig } from "../../src/config.ts";
import { createServer, type Server } from "../../src/main.ts";

/** On a free port. The client's key is good for this server alone: it stands in no database and goes with the process. */
export async function createOwnServer(): Promise<{ server: Server; listen: () => Promise<OpenAI> }> {
  const apiKey = randomBytes(24).toString("hex");
  const settings = loadConfig({ port: 0, logLevel: "error" });
  const server = await createServer({ ...settings, apiKeys: [...settings.apiKeys, apiKey] });
  return {
    server,
    listen: async () => new OpenAI({ baseURL: `${await server.listen()}/v1`, apiKey }),
  };
}
