// A server under test, in a process of its own: everything, or all but the job worker, which would train the jobs that a load
// creates. Prints its address. `tsx bench/api-server.ts HOME [worker]`
import { loadConfig } from "../src/config.ts";
import { createServer } from "../src/main.ts";

const [, , homeDirectory = "", worker] = process.argv;
const config = loadConfig({ homeDirectory, port: 0, logLevel: "error" }, {});
const server = await createServer(config, worker === "worker" ? {} : { createWorker: null });
process.stdout.write(`${await server.listen()}\n`);
process.once("SIGTERM", () => void server.stop());
