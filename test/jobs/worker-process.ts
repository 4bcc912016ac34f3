// A server without HTTP: a worker on the home folder given as argument, to be killed by a test.
import { openWorkbench } from "./workbench.ts";

const bench = await openWorkbench({ home: process.argv[2] ?? "" });
bench.worker().start();
setInterval(() => undefined, 1000);
