// Python libraries that build on the official client, against one server. Skipped where scripts/clients-env.sh has not made
// their environment.
import { join } from "node:path";
import { afterAll, beforeAll, describe, test } from "vitest";
import { cleanUp, JOB_TIMEOUT_MS } from "../e2e/harness.ts";
import {
  clientEnvironment,
  EMBEDDING_MODEL,
  EMBEDDING_WIDTH,
  OFFLINE,
  PROGRAM_TIMEOUT_MS,
  pythonOf,
  runSteps,
  startServer,
  trainingFile,
  tunedModel,
} from "./harness.ts";

const python = pythonOf("libraries");

describe.skipIf(python === null)("libraries", () => {
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
