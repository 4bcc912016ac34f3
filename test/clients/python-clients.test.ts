// The official Python client at each of its majors against one server. Skipped where scripts/clients-env.sh has not made the
// Python environments.
import { afterAll, beforeAll, describe, test } from "vitest";
import { cleanUp } from "../e2e/harness.ts";
import {
  clientEnvironment,
  EMBEDDING_MODEL,
  EMBEDDING_WIDTH,
  PROGRAM_TIMEOUT_MS,
  pythonOf,
  runSteps,
  startServer,
  trainingFile,
  UNREACHABLE_MODEL,
} from "./harness.ts";
import type { ClientServer } from "./harness.ts";

const MAJORS = [1, 2, 3].map((major) => ({ major, python: pythonOf(`openai-${major}`) }));

describe.skipIf(MAJORS.every(({ python }) => python === null))("the official Python client", () => {
  let server: ClientServer;

  beforeAll(async () => {
    server = await startServer();
  });
  afterAll(cleanUp);

  for (const { major, python } of MAJORS) {
    test.skipIf(python === null)(`openai ${major}`, { timeout: PROGRAM_TIMEOUT_MS }, async () => {
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
