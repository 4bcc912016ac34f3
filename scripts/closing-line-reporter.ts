// Ends a test run with the plain line "N passed, N failed" that scripts and people can read at a glance.
import type { Reporter, TestModule } from "vitest/node";

export default class ClosingLineReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly unknown[]): void {
    const count = { passed: 0, failed: unhandledErrors.length, skipped: 0 };
    for (const module of modules) {
      // A file that does not load has no tests to count, and must not pass for that.
      if (module.state() === "failed" && [...module.children.allTests("failed")].length === 0)
        count.failed += 1;
      for (const test of module.children.allTests()) {
        const state = test.result().state;
        if (state === "passed" || state === "failed" || state === "skipped") count[state] += 1;
      }
    }
    const skipped = count.skipped > 0 ? `${count.skipped} skipped\n` : "";
    // The default reporter flushes its summary in the same turn; the closing line must come after it.
    setImmediate(() => process.stdout.write(`\n${skipped}${count.passed} passed, ${count.failed} failed\n`));
  }
}
