#!/usr/bin/env node
// Starts the command line: the TypeScript source through tsx in a checkout (src/ lies beside bin/), else the built
// dist/. Plain JavaScript on purpose: this file runs before anything that could understand TypeScript.
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

const source = new URL("../src/cli/main.ts", import.meta.url);
const built = new URL("../dist/cli/main.js", import.meta.url);

/** Node 20.19 is the first release of the 20 line with all that the dependencies need; `engines` in package.json agrees. */
const MINIMUM_NODE = [20, 19];

async function load() {
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
  if (major < MINIMUM_NODE[0] || (major === MINIMUM_NODE[0] && minor < MINIMUM_NODE[1])) {
    throw new Error(
      `tunesmith needs Node ${MINIMUM_NODE.join(".")} or newer; this is Node ${process.versions.node}. Install a newer Node and run the command again.`,
    );
  }
  if (existsSync(source)) {
    let tsx;
    try {
      tsx = await import("tsx/esm/api");
    } catch (error) {
      if (!existsSync(built)) {
        throw new Error(
          `This is a source checkout (${fileURLToPath(source)}), which runs through the package "tsx", and tsx is not installed. Run "npm ci" in the checkout, then the command again.`,
          { cause: error },
        );
      }
    }
    if (tsx !== undefined) {
      tsx.register();
      return import(source.href);
    }
  }
  if (existsSync(built)) return import(built.href);
  throw new Error(
    `Neither ${fileURLToPath(source)} nor ${fileURLToPath(built)} is there, so this installation is incomplete. Install the package again, or run "npm run build" in a checkout.`,
  );
}

let cli;
try {
  cli = await load();
} catch (error) {
  // A fault inside the source itself keeps its stack: only a developer of this package can meet it.
  process.stderr.write(
    `tunesmith: ${error.cause === undefined && error.constructor !== Error ? error.stack : error.message}\n`,
  );
  process.exit(1);
}
process.exitCode = await cli.runFromProcess();
