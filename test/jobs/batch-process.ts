// A server without HTTP that works on batches in the home folder given as argument, to be killed by a test. Each line that it
// runs leaves a mark in the file `ran.txt`.
import { appendFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { answered, numberOf, openBatchBench } from "./batch-bench.ts";

const home = process.argv[2] ?? "";
const bench = await openBatchBench({
  home,
  slots: 2,
  answer: async ({ body }) => {
    await delay(20);
    appendFileSync(join(home, "ran.txt"), `${numberOf(body)}\n`);
    return answered(body);
  },
});
bench.startWorkers();
setInterval(() => undefined, 1000);
