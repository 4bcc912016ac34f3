// What the command line says when it is used wrongly, when no server answers, and when it has nothing to do.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { afterEach, expect, test } from "vitest";
import {
  BIN,
  sendError,
  startFakeServer,
  tunesmith,
  tunesmithProcess,
  unusedBaseUrl,
} from "./fake-server.ts";

let close: () => Promise<unknown> = async () => undefined;
afterEach(() => close());

const NOWHERE = await unusedBaseUrl();

/** Prints the processor time of the whole command, which unlike the clock does not depend on what else the machine does. */
const PRINT_CPU_TIME = `process.on("exit",()=>console.error("cpu ms",Math.round(process.cpuUsage().user/1000)))`;

test("--help starts fast, from any folder", async () => {
  await tunesmithProcess(["--help"]); // fills the compiler's cache, as any earlier use did
  const { code, out, err } = await tunesmithProcess(["--help"], {
    cwd: tmpdir(),
    env: { NODE_OPTIONS: `--import "data:text/javascript,${encodeURIComponent(PRINT_CPU_TIME)}"` },
  });
  expect(code).toBe(0);
  for (const command of ["serve", "files", "jobs", "models", "chat"]) expect(out).toContain(`  ${command}`);
  const cpuMs = Number(/cpu ms (\d+)/.exec(err)?.[1]);
  // The promise is one second; processors that share a core need up to twice the time.
  expect(cpuMs).toBeLessThan(2_000);
});

test("--version is the package's", async () => {
  const { code, out } = await tunesmith(["--version"]);
  expect(code).toBe(0);
  expect(out).toMatch(/^\d+\.\d+\.\d+\n$/);
});

test("the command as a process: exit code, both streams, no stack trace", async () => {
  const unreachable = await tunesmithProcess(["models", "--base-url", NOWHERE]);
  expect(unreachable).toMatchObject({ code: 3, out: "" });
  expect(unreachable.err).toMatch(/^tunesmith: No server answers [^\n]*\n$/);
  const wrong = await tunesmithProcess(["train"]);
  expect(wrong).toMatchObject({ code: 2, out: "" });
});

test.each([
  { words: ["train"], says: "unknown command 'train'" },
  { words: ["jobs", "follow"], says: "missing required argument 'id'" },
  { words: ["jobs", "create", "-m", "x"], says: "--training-file" },
  { words: ["files", "list", "--limit", "many"], says: "Expected a whole number from 1." },
  { words: ["serve", "--port", "70000"], says: "Expected a whole number from 0 to 65535." },
  { words: ["chat", "m", "hi", "--temperature", "warm"], says: "Expected a number." },
  { words: ["jobs", "create", "-m", "x", "-t", "y", "--metadata", "team"], says: "Expected key=value." },
  {
    words: ["files", "upload", "no-such.jsonl"],
    says: 'Cannot read "no-such.jsonl": expected a file or a pipe, found nothing of that name. Check the path.',
  },
  { words: ["files", "upload", "/"], says: 'Cannot read "/": expected a file or a pipe, found a folder.' },
  { words: ["chat", "m"], says: "Expected a message as the second argument or on standard input" },
])("$words ends with 2 and says what is wrong", async ({ words, says }) => {
  const { code, out, err } = await tunesmith([...words, "--base-url", NOWHERE]);
  expect(err).toContain(says);
  expect(err).not.toMatch(/^ +at /m);
  expect(out).toBe("");
  expect(code).toBe(2);
});

test.each(["foo", "localhost:8080/v1", "ftp://127.0.0.1/v1"])("%s is no base URL", async (baseUrl) => {
  const { code, out, err } = await tunesmith(["jobs", "list", "--base-url", baseUrl]);
  expect({ code, out }).toEqual({ code: 2, out: "" });
  expect(err).toBe(
    `tunesmith: "${baseUrl}" is no base URL: expected one like http://127.0.0.1:8080/v1, from --base-url or TUNESMITH_BASE_URL.\n`,
  );
});

test.each([
  [["--base-url", "http://user:secret@127.0.0.1:9/v1"], "without a user and a password"],
  [["--base-url", "user:secret@host"], "is no base URL"],
  [["--base-url", "http://127.0.0.1:9/v1?secret=1"], "without anything from ? or # on"],
  [["--base-url", "http://127.0.0.1:6000/v1"], "Port 6000 is one that HTTP clients refuse"],
  [["--api-key", "ключ"], "Expected a key of visible ASCII characters"],
  [["--api-key", "first\nsecret"], "found other characters"],
  [["--api-key", ""], "found nothing"],
])("%j: said to be what is wrong, not that no server answers", async (words, says) => {
  const { code, out, err } = await tunesmith(["models", "--base-url", NOWHERE, ...words]);
  expect({ code, out }).toEqual({ code: 2, out: "" });
  expect(err).toContain(says);
  expect(err).not.toMatch(/No server answers|ключ|user:secret|first/);
});

test("a base URL's scheme may be in capitals, and a key may end in a line end", async () => {
  const server = await startFakeServer({ "GET /v1/models": { object: "list", data: [] } });
  close = server.close;
  const baseUrl = server.baseUrl.replace("http", "HTTP");
  const { code } = await tunesmith(["models", "--base-url", baseUrl, "--api-key", "sk-key\r\n"]);
  expect(code).toBe(0);
  expect(server.asked[0]?.headers.authorization).toBe("Bearer sk-key");
});

const ID_COMMANDS = [
  ["files", "get"],
  ["files", "content"],
  ["files", "delete"],
  ["jobs", "get"],
  ["jobs", "follow"],
  ["jobs", "events"],
  ["jobs", "checkpoints"],
  ["jobs", "pause"],
  ["jobs", "resume"],
  ["jobs", "cancel"],
  ["keys", "revoke"],
  ["models", "delete"],
  ["models", "show"],
  ["alias", "show"],
  ["alias", "rollback"],
  ["alias", "end-trial"],
  ["alias", "log"],
  ["alias", "comparisons"],
  ["alias", "delete"],
];

test.each([
  ...ID_COMMANDS.map((words) => [words, [] as string[]] as const),
  [["alias", "set"], ["m"]] as const,
  [
    ["alias", "canary"],
    ["m", "--percent", "5"],
  ] as const,
  [["alias", "shadow"], ["m"]] as const,
  [["export"], ["--format", "peft", "--out", "no-such-folder"]] as const,
])("%j: no id, a dot and two are refused before anything is sent", async (words, more) => {
  const server = await startFakeServer({});
  close = server.close;
  for (const id of ["", " ", ".", ".."]) {
    const { code, out, err } = await tunesmith([...words, id, ...more, "--base-url", server.baseUrl]);
    expect({ id, code, out }).toEqual({ id, code: 2, out: "" });
    expect(err).toContain(`, found "${id}".`);
  }
  expect(server.asked).toEqual([]);
});

test.each([[["export", "ft:m", "--format", "peft", "--out", ""]], [["verify", ""]]])(
  "%j: an empty name is no folder",
  async (words) => {
    const { code, err } = await tunesmith([...words, "--base-url", NOWHERE]);
    expect({ code, err }).toEqual({
      code: 2,
      err: "tunesmith: Expected the name of a folder, found an empty one.\n",
    });
  },
);

test("a base URL that lacks /v1 is named as the likely reason", async () => {
  const server = await startFakeServer({});
  close = server.close;
  const baseUrl = server.baseUrl.replace("/v1", "");
  const { code, err } = await tunesmith(["models", "--base-url", baseUrl]);
  expect(code).toBe(1);
  expect(err).toBe(
    `tunesmith: Invalid URL (GET /models). The base URL ${baseUrl} does not end in /v1, as that of the API does.\n`,
  );
  const right = await tunesmith(["models", "--base-url", server.baseUrl]);
  expect(right.err).toBe("tunesmith: Invalid URL (GET /v1/models)\n");
});

test.each([{ words: ["--json"] }, { words: ["files", "--json"] }])(
  "$words: no command",
  async ({ words }) => {
    const { code, out } = await tunesmith(words);
    expect(code).toBe(2);
    expect(JSON.parse(out)).toMatchObject({
      error: { message: "Expected a command, found none. See tunesmith --help." },
    });
  },
);

test.skipIf(!existsSync("/dev/full"))(
  "an answer that cannot be written is a failure with a reason",
  async () => {
    const server = await startFakeServer({ "GET /v1/models": { object: "list", data: [] } });
    close = server.close;
    const child = spawn("/bin/sh", [
      "-c",
      `"$0" "$1" models --base-url "$2" > /dev/full`,
      ...[process.execPath, BIN, server.baseUrl],
    ]);
    let err = "";
    child.stderr.on("data", (chunk: Buffer) => (err += chunk.toString()));
    const [code] = (await once(child, "close")) as [number];
    expect(err).toBe("tunesmith: The answer could not be written: ENOSPC: no space left on device, write.\n");
    expect(code).toBe(1);
  },
);

test("an unreachable server ends with 3 and says how to start one", async () => {
  const { code, out, err } = await tunesmith(["jobs", "list", "--base-url", NOWHERE]);
  expect(code).toBe(3);
  expect(out).toBe("");
  expect(err).toBe(
    `tunesmith: No server answers at ${NOWHERE} (connection refused). Start one with "tunesmith serve", or name a running one with --base-url or TUNESMITH_BASE_URL.\n`,
  );
});

test("with --json a failure is one error object on standard output", async () => {
  const { code, out, err } = await tunesmith(["jobs", "list", "--json", "--base-url", NOWHERE]);
  expect(code).toBe(3);
  expect(err).toBe("");
  const { error } = JSON.parse(out) as { error: { message: string } };
  expect(error.message).toContain("No server answers");
});

test("an error of the server ends with 1 and its message", async () => {
  const server = await startFakeServer({
    "GET /v1/files/file-x": sendError(404, "No such File object: file-x"),
  });
  close = server.close;
  const plain = await tunesmith(["files", "get", "file-x", "--base-url", server.baseUrl]);
  expect(plain).toEqual({ code: 1, out: "", err: "tunesmith: No such File object: file-x\n" });
  const json = await tunesmith(["files", "get", "file-x", "--json", "--base-url", server.baseUrl]);
  expect(json.code).toBe(1);
  expect(JSON.parse(json.out)).toEqual({
    error: {
      message: "No such File object: file-x",
      type: "invalid_request_error",
      param: null,
      code: null,
    },
  });
});

test("a server error names the request to look for", async () => {
  const server = await startFakeServer({ "GET /v1/models": sendError(500, "The server had an error.") });
  close = server.close;
  const { code, err } = await tunesmith(["models", "--base-url", server.baseUrl]);
  expect(code).toBe(1);
  expect(err).toBe("tunesmith: The server had an error. (request req_test in the server's log)\n");
});

test("something else at the address is recognised", async () => {
  const server = await startFakeServer({
    "GET /v1/models": (response) => response.writeHead(502).end("<html>Bad gateway</html>"),
    "GET /v1/files": (response) => response.end("hello"),
  });
  close = server.close;
  const proxy = await tunesmith(["models", "--base-url", server.baseUrl]);
  expect(proxy.err).toContain('answered 502 with "<html>Bad gateway</html>" instead of an OpenAI error');
  expect(proxy.code).toBe(1);
  const other = await tunesmith(["files", "list", "--base-url", server.baseUrl]);
  expect(other.err).toContain("Expected JSON from");
  expect(other.err).toContain('found "hello"');
  expect(other.code).toBe(1);
});

test("base URL and key come from the environment, ours before OpenAI's", async () => {
  const server = await startFakeServer({ "GET /v1/models": { object: "list", data: [] } });
  close = server.close;
  await tunesmithProcess(["models"], {
    env: {
      OPENAI_BASE_URL: NOWHERE,
      TUNESMITH_BASE_URL: `${server.baseUrl}/`,
      OPENAI_API_KEY: "sk-openai",
      TUNESMITH_API_KEY: "sk-ours",
    },
  });
  await tunesmithProcess(["models", "--api-key", "sk-option"], {
    env: { OPENAI_BASE_URL: server.baseUrl, OPENAI_API_KEY: "sk-openai" },
  });
  expect(server.asked.map(({ headers }) => headers.authorization)).toEqual([
    "Bearer sk-ours",
    "Bearer sk-option",
  ]);
});

test("a missing key is explained", async () => {
  const server = await startFakeServer({ "GET /v1/models": sendError(401, "You sent no API key.") });
  close = server.close;
  const { err } = await tunesmith(["models", "--base-url", server.baseUrl]);
  expect(err).toBe("tunesmith: You sent no API key. Give the key with --api-key or in TUNESMITH_API_KEY.\n");
});
