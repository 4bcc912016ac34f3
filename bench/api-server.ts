// The server under load, in a process of its own: everything but the job worker, which would train the jobs that the load creates.
// Prints its address. `tsx bench/api-server.ts HOME`
import { loadConfig } from "../src/config.ts";
import { createServer } from "../src/main.ts";

const [, , homeDirectory = ""] = process.argv;
const config = loadConfig({ homeDirectory, port: 0, logLevel: "error" }, {});
const server = await createServer(config, { createWorker: null });
process.stdout.write(`${await server.listen()}\n`);
process.once("SIGTERM", () => void server.stop());
