import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["src/**/*.test.ts", "test/**/*.test.ts"],
    // onnxruntime-node is native code: a crash must not take the runner with it, so forks, not threads.
    pool: "forks",
    // Two cores is the reference machine, and each session already uses both.
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 60_000,
    reporters: ["default", "./scripts/closing-line-reporter.ts"],
  },
});
