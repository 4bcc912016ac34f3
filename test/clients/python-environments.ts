// The Python environments of the client tests, which make them where python3 and the network allow it: the first time it takes
// minutes, afterwards no time. Where one cannot be made, its tests are skipped and their names say why.
import { spawn } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

/** Of one environment. The largest takes two minutes on two busy cores; a network that trickles must not hold up the tests longer. */
const MAKING_TIMEOUT_MS = 10 * 60_000;

/** A machine without a network knows it in seconds, one whose network drops everything within a minute. */
const SHORT_PATIENCE = { PIP_RETRIES: "1", PIP_DEFAULT_TIMEOUT: "15" };

export interface PythonEnvironment {
  /** The interpreter; null where the environment cannot be made. */
  python: string | null;
  /** Stands behind the name of a test that needs it: nothing, or why it is skipped. */
  note: string;
}

/** The environment of scripts/requirements-clients-NAME.txt, made unless it is there. */
export async function pythonEnvironment(name: string): Promise<PythonEnvironment> {
  const reason = await make(name);
  if (reason !== null) return { python: null, note: ` (skipped: ${reason})` };
  return { python: join(ROOT, ".venv-clients", name, "bin/python"), note: "" };
}

/** Why it could not be made; null when it is there. */
function make(name: string): Promise<string | null> {
  return new Promise((resolve) => {
    // A process group of its own, so that the end of its time is that of pip, too.
    const child = spawn("bash", [join(ROOT, "scripts/clients-env.sh"), name], {
      env: { ...SHORT_PATIENCE, ...process.env },
      stdio: ["ignore", "ignore", "pipe"],
      detached: true,
    });
    let said = "";
    child.stderr.on("data", (chunk: Buffer) => (said += chunk.toString()));
    const timer = setTimeout(() => {
      said = `making ${name} took longer than ${MAKING_TIMEOUT_MS / 60_000} minutes`;
      if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
    }, MAKING_TIMEOUT_MS);
    child.once("error", ({ message }) => {
      clearTimeout(timer);
      resolve(message);
    });
    child.once("close", (code) => {
      clearTimeout(timer);
      const [line = `scripts/clients-env.sh ${name} ended with ${code}`] = said.trim().split("\n").slice(-1);
      resolve(code === 0 ? null : line.replace(/^clients-env: /, ""));
    });
  });
}
