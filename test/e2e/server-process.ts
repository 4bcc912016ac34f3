// A server as its own process, started the way a user starts it: for tests that kill it.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type OpenAI from "openai";
import { atCleanUp, connect, OPENAI_MODEL, TINY } from "./harness.ts";

const PROGRAM = fileURLToPath(new URL("../../bin/tunesmith.js", import.meta.url));

export interface ServerProcess {
  url: string;
  client: OpenAI;
  /** kill -9; resolves when the process is gone. */
  kill(): Promise<void>;
}

/** `tunesmith serve` on the home folder, listening on a free port; `settings` are variables that differ from the tests' usual. */
export async function spawnServer(
  home: string,
  settings: Record<string, string> = {},
): Promise<ServerProcess> {
  const child = spawn(process.execPath, [PROGRAM, "--json", "serve", "--port", "0"], {
    stdio: ["ignore", "pipe", "inherit"],
    env: {
      ...process.env,
      TUNESMITH_HOME: home,
      TUNESMITH_MODEL_ALIASES: `${OPENAI_MODEL}=${TINY}`,
      TUNESMITH_API_KEYS: "",
      TUNESMITH_THREADS: "1",
      TUNESMITH_LOG_LEVEL: "fatal",
      ...settings,
    },
  });
  const exited = once(child, "exit");
  const kill = async (): Promise<void> => {
    child.kill("SIGKILL");
    await exited;
  };
  atCleanUp(kill);
  const lines = createInterface(child.stdout);
  const [line] = (await Promise.race([once(lines, "line"), exited])) as [unknown];
  if (typeof line !== "string") throw new Error(`The server ended before it listened (${String(line)}).`);
  const url = (JSON.parse(line) as { base_url: string }).base_url.replace(/\/v1$/, "");
  return { url, client: connect(url), kill };
}
