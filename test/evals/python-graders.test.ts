// Python graders with a real Python: scores, faults, limits, and that a grader sees neither network nor files. Isolation is
// tested where the kernel grants it, and skipped by name elsewhere.
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { chmodSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { Cancelled } from "../../src/errors.ts";
import type { GradingFault } from "../../src/evals/grading-fault.ts";
import { MAX_WAITING_PYTHON_GRADERS, PythonGraders } from "../../src/evals/python-graders.ts";
import type { PythonGradersOptions } from "../../src/evals/python-graders.ts";
import { sampleOfText } from "../../src/evals/sample.ts";

const INTERPRETER = "/usr/bin/python3";
const hasPython = spawnSync(INTERPRETER, ["-c", "import resource"]).status === 0;
const hasNamespaces =
  process.platform === "linux" && spawnSync("unshare", ["--user", "--net", "--mount", "true"]).status === 0;

const context = { item: { want: 3 }, sample: sampleOfText('{"a": 1}') };
const { signal } = new AbortController();

function graders(options: Partial<PythonGradersOptions> = {}): PythonGraders {
  const limits = { timeoutMs: 60_000, ...options.limits };
  return new PythonGraders({ mode: "isolated", interpreter: INTERPRETER, ...options, limits });
}

async function faultOf(run: Promise<unknown>): Promise<GradingFault & { type?: string }> {
  return run.then(
    (value) => Promise.reject(new Error(`expected a fault, but got ${String(value)}`)),
    (error: GradingFault) => error,
  );
}

const function_ = (...lines: string[]) =>
  ["def grade(sample, item):", ...lines.map((line) => `    ${line}`)].join("\n");

const modes = (["isolated", "unconfined"] as const).filter((mode) => mode === "unconfined" || hasNamespaces);

describe.skipIf(!hasPython).each(modes)("%s", (mode) => {
  const run = (source: string, options: Partial<PythonGradersOptions> = {}) =>
    graders({ mode, ...options }).grade(source, context, signal);

  it("grades the sample with the item", async () => {
    expect(
      await run(
        function_("return len(sample['output_text']) + sample['output_json']['a'] + item['want'] / 2"),
      ),
    ).toBe(10.5);
    const none = { item: {}, sample: sampleOfText("no JSON") };
    expect(
      await graders({ mode }).grade(function_("return -float(sample['output_json'] is None)"), none, signal),
    ).toBe(-1);
  });

  it("whatever it prints is thrown away", async () => {
    const loud = function_(
      "import sys",
      "for _ in range(3000):",
      "    print('x' * 1000)",
      "    sys.stderr.write('y' * 1000)",
      "return 0.5",
    );
    expect(await run(loud)).toBe(0.5);
  });

  it.each([
    [
      function_("return 1 / 0"),
      /^Traceback[^]*File "<grader>", line 2, in grade[^]*ZeroDivisionError: division by zero\n$/,
    ],
    [function_("return float('nan')"), /ValueError: grade returned nan; expected a finite number/],
    [function_("return '1'"), /TypeError: grade returned str; expected a number/],
    [function_("return None"), /TypeError: float\(\) argument/],
    [function_("raise SystemExit(0)"), /SystemExit: 0/],
    ["def grade(sample):\n    return 1", /TypeError: grade\(\) takes 1 positional argument but 2 were given/],
    ["grade = 1", /NameError: the source defines no function grade\(sample, item\)/],
    ["def grade(sample, item)\n", /SyntaxError/],
    [function_("import os", "os._exit(7)"), /ended without an answer \(exit code 7\)/],
    [function_("return [0] * 10 ** 9"), /MemoryError/],
    [function_("import os", "os.write(3, b'x' * 200000)", "return 1"), /ended without an answer/],
    [function_("open('big', 'wb').write(b'x' * 2000000)", "return 1"), /File too large|No space left/],
  ])("%j is a runtime error", async (source, details) => {
    const fault = await faultOf(run(source, { limits: { maxDiskBytes: 1_000_000 } }));
    expect(fault.flag).toBe("python_grader_runtime_error");
    expect(fault.message).toMatch(details);
    expect(fault.message.length).toBeLessThanOrEqual(2200);
  });

  it("ends with its time, and takes what it started along", async () => {
    const start = Date.now();
    const fault = await faultOf(run(function_("while True: pass"), { limits: { timeoutMs: 1000 } }));
    expect(fault).toMatchObject({
      flag: "python_grader_runtime_error",
      message: "The grader ran longer than 1 seconds and was stopped.",
    });
    expect(Date.now() - start).toBeLessThan(8000);
  });

  it("has no network", async () => {
    let connections = 0;
    const server = createServer((socket) => {
      connections += 1;
      socket.destroy();
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    onTestFinished(() => void server.close());
    const { port } = server.address() as AddressInfo;
    const fault = await faultOf(
      run(function_("import socket", `socket.create_connection(('127.0.0.1', ${port}), 2)`)),
    );
    expect(fault.message).toMatch(/Network is unreachable|may not use socket/);
    expect(connections).toBe(0);
  });

  it("gets nothing of this process's environment", async () => {
    process.env["TUNESMITH_TEST_SECRET"] = "secret";
    onTestFinished(() => void delete process.env["TUNESMITH_TEST_SECRET"]);
    const names = await faultOf(run(function_("import os", "raise Exception(' '.join(sorted(os.environ)))")));
    expect(names.message).toContain("Exception: HOME LANG OMP_NUM_THREADS OPENBLAS_NUM_THREADS PATH TMPDIR");
  });

  it("leaves no folder behind", async () => {
    const folders = () => readdirSync(tmpdir()).filter((name) => name.startsWith("tunesmith-grader-"));
    const before = new Set(folders());
    await run(
      function_(
        "import os",
        "os.makedirs('a/b')",
        "open('a/b/c', 'w').close()",
        "os.chmod('a', 0)",
        "return 1",
      ),
    );
    expect(folders().filter((name) => !before.has(name))).toEqual([]);
  });

  it("stops when the client leaves", async () => {
    const controller = new AbortController();
    const grading = graders({ mode }).grade(
      function_("import time", "time.sleep(60)"),
      context,
      controller.signal,
    );
    setTimeout(() => controller.abort(), 300);
    await expect(grading).rejects.toThrow(Cancelled);
  });

  it("checks a source without running it", async () => {
    const check = (source: string) => graders({ mode }).check(source, signal);
    await expect(check("import nothing_of_this_name\n" + function_("return 1"))).resolves.toBeUndefined();
    await expect(check("from somewhere import grade")).resolves.toBeUndefined();
    expect((await faultOf(check("x = 1"))).message).toContain("defines no function grade(sample, item)");
    expect((await faultOf(check("def grade(:"))).message).toContain("SyntaxError");
  });
});

describe.skipIf(!hasPython || !hasNamespaces)("isolated", () => {
  const observe = async (...lines: string[]) =>
    (await faultOf(graders().grade(function_(...lines), context, signal))).message;

  it("sees Python and nothing of this machine", async () => {
    const seen = await observe(
      "import os",
      "raise Exception(sorted(os.listdir('/')), os.listdir('/tmp'), os.path.exists('/proc/1'), os.getuid(), os.getpid())",
    );
    expect(seen).toMatch(/\[('(bin|dev|etc|lib|lib32|lib64|tmp|usr)'(, )?)+\], \[\], False, 65534, 1\)/);
    expect(await observe(`open(${JSON.stringify(import.meta.filename)})`)).toContain(
      "No such file or directory",
    );
    expect(await observe("open('/usr/x', 'w')")).toMatch(/Read-only file system|Permission denied/);
  });

  it("has no right to change that", async () => {
    const results = await observe(
      "import ctypes",
      "libc = ctypes.CDLL(None)",
      "raise Exception([libc.mount(b'x', b'/tmp', b'tmpfs', 0, None), libc.chroot(b'/tmp'), libc.umount(b'/'), libc.setuid(0)])",
    );
    expect(results).toContain("Exception: [-1, -1, -1, -1]");
  });

  it("starts no more processes than it may", async () => {
    const count = await observe(
      "import os, time",
      "count = 0",
      "try:",
      "    while True:",
      "        if os.fork() == 0: time.sleep(60)",
      "        count += 1",
      "except OSError: raise Exception('count', count)",
    );
    expect(Number(/'count', (\d+)/.exec(count)?.[1])).toBeLessThan(64);
  });

  it("dies with the server, however that ends", async () => {
    const marker = `marker_${process.pid}_${Date.now()}`;
    const script = `
      import { PythonGraders } from ${JSON.stringify(new URL("../../src/evals/python-graders.ts", import.meta.url).href)};
      const graders = new PythonGraders({ mode: "isolated", interpreter: "${INTERPRETER}" });
      const source = "def grade(sample, item):\\n    import subprocess\\n    subprocess.run(['/bin/sh', '-c', 'sleep 300; : ${marker}'])\\n    return 1";
      void graders.grade(source, { item: {}, sample: {} }, new AbortController().signal);
    `;
    const running = () =>
      execFileSync("ps", ["-eo", "args"], { encoding: "utf8" })
        .split("\n")
        .filter((line) => line.startsWith("/bin/sh") && line.includes(marker));
    // A server that is killed removes nothing; the folder it leaves is empty, for the grader's files were its own.
    const folder = mkdtempSync(join(tmpdir(), "tunesmith-killed-"));
    chmodSync(folder, 0o755); // a server that runs as root starts graders as nobody
    onTestFinished(() => rmSync(folder, { recursive: true }));
    const child = spawn(process.execPath, ["--import", "tsx", "--input-type=module", "-e", script], {
      stdio: "ignore",
      env: { ...process.env, TMPDIR: folder },
    });
    await vi.waitFor(() => expect(running()).toHaveLength(1), { timeout: 60_000, interval: 100 });
    child.kill("SIGKILL");
    await vi.waitFor(() => expect(running()).toEqual([]), { timeout: 10_000, interval: 100 });
    const left = readdirSync(folder).filter((name) => name.startsWith("tunesmith-grader-"));
    expect(left.flatMap((name) => readdirSync(join(folder, name)))).toEqual([]);
  }, 120_000);
});

describe("what the server cannot do", () => {
  it("an interpreter that is not there", async () => {
    const fault = await faultOf(graders({ interpreter: "/nowhere/python" }).grade("x", context, signal));
    expect(fault).toMatchObject({ flag: "python_grader_server_error", type: "interpreter_unavailable" });
    expect(fault.message).toMatch(/^\/nowhere\/python: spawn .*ENOENT/);
  });

  it.skipIf(!hasPython)("more graders than may wait", async () => {
    const busy = graders({ mode: "unconfined" });
    const controller = new AbortController();
    const slow = function_("import time", "time.sleep(60)");
    const running = Array.from({ length: 2 + MAX_WAITING_PYTHON_GRADERS }, () =>
      busy.grade(slow, context, controller.signal).catch((error: unknown) => error),
    );
    expect(await faultOf(busy.grade(slow, context, signal))).toMatchObject({
      flag: "python_grader_server_error",
      type: "overloaded",
      message: `More than ${MAX_WAITING_PYTHON_GRADERS} Python graders wait already.`,
    });
    controller.abort();
    for (const each of await Promise.all(running)) expect(each).toBeInstanceOf(Cancelled);
  });
});
