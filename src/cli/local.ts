// `tunesmith serve` and `tunesmith models pull`: the two commands that work on this machine themselves. src/main.ts is
// loaded here, and only when one of them runs, so that every other command starts fast.
import { once } from "node:events";
import { createByteProgress } from "./progress.ts";
import type { ServeOptions } from "./program.ts";
import { EXIT, type Terminal } from "./terminal.ts";

/** Serves until Ctrl-C or SIGTERM, then ends in order. */
export async function serve(options: ServeOptions, terminal: Terminal, json: boolean): Promise<number> {
  const { startServer } = await import("../main.ts");
  const server = await startServer({
    ...(options.host === undefined ? {} : { host: options.host }),
    ...(options.port === undefined ? {} : { port: options.port }),
  });
  const baseUrl = `${server.url}/v1`;
  terminal.stdout.write(
    json
      ? `${JSON.stringify({ base_url: baseUrl, pid: process.pid })}\n`
      : `Serving ${baseUrl} (Ctrl-C ends)\n`,
  );
  if (!terminal.signal.aborted) await once(terminal.signal, "abort");
  if (!json)
    terminal.stderr.write("Stopping: requests in flight finish, a running job is kept for the next start.\n");
  await server.stop();
  return EXIT.success;
}

/** Fetches a base model into this machine's cache. */
export async function pullModel(name: string, terminal: Terminal, json: boolean): Promise<number> {
  const { pullBaseModel } = await import("../main/base-models.ts");
  const progress = json ? null : await createByteProgress(terminal, name);
  try {
    const model = await pullBaseModel(name, {
      signal: terminal.signal,
      onProgress: (doneBytes, totalBytes) => progress?.update(doneBytes, totalBytes),
    });
    progress?.stop();
    terminal.stdout.write(
      json ? `${JSON.stringify({ id: model.id, path: model.path })}\n` : `${model.id} is at ${model.path}\n`,
    );
  } finally {
    progress?.stop();
  }
  return EXIT.success;
}
