// Python libraries that build on the official client, against one server, in a virtual environment that is made here unless it is
// there. Skipped by name where it cannot be made.
import { join } from "node:path";
import { afterAll, beforeAll, describe, test } from "vitest";
import { cleanUp, JOB_TIMEOUT_MS } from "../e2e/harness.ts";
import {
  clientEnvironment,
  EMBEDDING_MODEL,
  EMBEDDING_WIDTH,
  OFFLINE,
  PROGRAM_TIMEOUT_MS,
  runSteps,
  startServer,
  trainingFile,
  tunedModel,
} from "./harness.ts";
import { pythonEnvironment } from "./python-environments.ts";

const { python, note } = await pythonEnvironment("libraries");

describe.skipIf(python === null)(`libraries${note}`, () => {
  let env: NodeJS.ProcessEnv;

  beforeAll(async () => {
    const server = await startServer();
    env = {
      ...clientEnvironment(server, await tunedModel(server)),
      ...OFFLINE,
      PYTHONPATH: join(import.meta.dirname, "absent"),
      EMBEDDING_MODEL,
      EMBEDDING_WIDTH: String(EMBEDDING_WIDTH),
      TRAINING_FILE: await trainingFile(),
    };
  }, JOB_TIMEOUT_MS);
  afterAll(cleanUp);

  test.each([
    ["LangChain", "langchain_suite.py"],
    ["LlamaIndex", "llama_index_suite.py"],
    ["LiteLLM", "litellm_suite.py"],
  ])("%s", { timeout: PROGRAM_TIMEOUT_MS }, async (_name, script) => {
    await runSteps(python, script, { env });
  });
});
