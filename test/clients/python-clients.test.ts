// The official Python client at each of its majors against one server, in virtual environments that are made here unless they
// are there. Skipped by name where they cannot be made.
import { afterAll, beforeAll, describe, test } from "vitest";
import { cleanUp } from "../e2e/harness.ts";
import {
  clientEnvironment,
  EMBEDDING_MODEL,
  EMBEDDING_WIDTH,
  PROGRAM_TIMEOUT_MS,
  runSteps,
  startServer,
  trainingFile,
  UNREACHABLE_MODEL,
} from "./harness.ts";
import type { ClientServer } from "./harness.ts";
import { pythonEnvironment } from "./python-environments.ts";

const MAJORS = await Promise.all(
  [1, 2, 3].map(async (major) => ({ major, ...(await pythonEnvironment(`openai-${major}`)) })),
);

describe.skipIf(MAJORS.every(({ python }) => python === null))("the official Python client", () => {
  let server: ClientServer;

  beforeAll(async () => {
    server = await startServer();
  });
  afterAll(cleanUp);

  for (const { major, python, note } of MAJORS) {
    test.skipIf(python === null)(`openai ${major}${note}`, { timeout: PROGRAM_TIMEOUT_MS }, async () => {
      await runSteps(python, "openai_suite.py", {
        env: {
          ...clientEnvironment(server, ""),
          TRAINING_FILE: await trainingFile(),
          EMBEDDING_MODEL,
          EMBEDDING_WIDTH: String(EMBEDDING_WIDTH),
          READER_KEY: server.readerKey,
          LIMITED_KEY: await server.limitedKey(),
          UNREACHABLE_MODEL,
        },
      });
    });
  }
});
