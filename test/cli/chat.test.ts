// Chat on the command line: streamed text in a pipe, one object with --json.
import { afterEach, expect, test } from "vitest";
import {
  sendEvents,
  sendEventsOpen,
  startFakeServer,
  tunesmith,
  tunesmithProcess,
  type Answer,
} from "./fake-server.ts";

let close: () => Promise<unknown> = async () => undefined;
afterEach(() => close());

function chunk(content: string | null, finish_reason: string | null = null) {
  const delta = content === null ? {} : { content };
  return { object: "chat.completion.chunk", choices: [{ index: 0, delta, logprobs: null, finish_reason }] };
}

async function chat(answer: Answer, words: readonly string[], input = "") {
  const server = await startFakeServer({ "POST /v1/chat/completions": answer });
  close = server.close;
  const result = await tunesmith(["chat", ...words, "--base-url", server.baseUrl], { input });
  return { ...result, body: JSON.parse(server.asked[0]?.body ?? "null") as unknown };
}

const HELLO = sendEvents([chunk(""), chunk("Hel"), chunk("lo 🌮"), chunk(null, "stop"), "[DONE]"]);

test("a message as argument", async () => {
  const words = ["m", "Hi", "--system", "Be kind", "--temperature", "0", "--max-tokens", "5", "--seed", "1"];
  const { code, out, err, body } = await chat(HELLO, words);
  expect({ code, out, err }).toEqual({ code: 0, out: "Hello 🌮\n", err: "" });
  expect(body).toEqual({
    model: "m",
    messages: [
      { role: "system", content: "Be kind" },
      { role: "user", content: "Hi" },
    ],
    temperature: 0,
    seed: 1,
    max_completion_tokens: 5,
    stream: true,
  });
});

test("a message on standard input", async () => {
  const { out, body } = await chat(HELLO, ["m"], "two\nlines\n");
  expect(out).toBe("Hello 🌮\n");
  expect(body).toMatchObject({ messages: [{ role: "user", content: "two\nlines" }] });
});

test("the command as a process reads its standard input", async () => {
  const server = await startFakeServer({ "POST /v1/chat/completions": HELLO });
  close = server.close;
  const words = ["chat", "m", "--base-url", server.baseUrl];
  expect(await tunesmithProcess(words, { input: "Hi\n" })).toEqual({ code: 0, out: "Hello 🌮\n", err: "" });
});

test("--json is the completion object, not streamed", async () => {
  const completion = { object: "chat.completion", choices: [{ message: { content: "Hello" } }] };
  const { out, body } = await chat(completion, ["m", "Hi", "--json"]);
  expect(JSON.parse(out)).toEqual(completion);
  expect(body).not.toHaveProperty("stream");
});

test("on a terminal, a conversation: /reset alone starts over, a message that begins so is one", async () => {
  const server = await startFakeServer({ "POST /v1/chat/completions": HELLO });
  close = server.close;
  const input = "Hi\n/reset my password please\n/reset\nAgain\n/exit";
  const words = ["chat", "m", "--system", "Be kind", "--base-url", server.baseUrl];
  const { code, out, err } = await tunesmith(words, { input, isTTY: true });
  expect(code).toBe(0);
  expect(err).toContain("/reset starts over");
  expect(out.match(/Hello 🌮/g)).toHaveLength(3);
  const asked = server.asked.map(({ body }) =>
    (JSON.parse(body) as { messages: { content: string }[] }).messages.map(({ content }) => content),
  );
  expect(asked).toEqual([
    ["Be kind", "Hi"],
    ["Be kind", "Hi", "Hello 🌮", "/reset my password please"],
    ["Be kind", "Again"],
  ]);
});

test("an answer cut off says so beside the text", async () => {
  const { code, out, err } = await chat(sendEvents([chunk("Hel"), chunk(null, "length"), "[DONE]"]), [
    "m",
    "Hi",
  ]);
  expect({ code, out }).toEqual({ code: 0, out: "Hel\n" });
  expect(err).toBe("(cut off at the token limit; raise it with --max-tokens)\n");
});

test("an error inside the stream ends with 1 after the text so far", async () => {
  const error = { error: { message: "Out of memory.", type: "server_error", param: null, code: null } };
  const { code, out, err } = await chat(sendEvents([chunk("Hel"), error]), ["m", "Hi"]);
  expect({ code, out, err }).toEqual({ code: 1, out: "Hel\n", err: "tunesmith: Out of memory.\n" });
});

test("a stream that just ends is not taken for an answer", async () => {
  const { code, err } = await chat(sendEvents([chunk("Hel")]), ["m", "Hi"]);
  expect(code).toBe(3);
  expect(err).toContain("broke off before the answer was complete");
});

test("events split anywhere, with comments and CRLF", async () => {
  const text = `: ping\r\n\r\ndata: ${JSON.stringify(chunk("ü🌮"))}\r\n\r\ndata: [DONE]\r\n\r\n`;
  const { out } = await chat(
    (response) => {
      const bytes = Buffer.from(text);
      response.writeHead(200, { "content-type": "text/event-stream" });
      let at = 0;
      const timer = setInterval(() => {
        if (at >= bytes.length) {
          clearInterval(timer);
          response.end();
        } else response.write(bytes.subarray(at, (at += 7)));
      }, 1);
    },
    ["m", "Hi"],
  );
  expect(out).toBe("ü🌮\n");
});

test.each([{ json: false }, { json: true }])(
  "Ctrl-C ends the request, not only the command (json: $json)",
  async ({ json }) => {
    const interrupt = new AbortController();
    let left = (): void => undefined;
    const clientLeft = new Promise<void>((resolve) => (left = resolve));
    const server = await startFakeServer({
      "POST /v1/chat/completions": (response) => {
        response.on("close", left);
        if (!json) sendEventsOpen(response, [chunk("Hel")]);
        setTimeout(() => interrupt.abort(), 50);
      },
    });
    close = server.close;
    const words = ["chat", "m", "Hi", "--base-url", server.baseUrl, ...(json ? ["--json"] : [])];
    const { code, out } = await tunesmith(words, { signal: interrupt.signal });
    expect({ code, out }).toEqual({ code: 130, out: json ? "" : "Hel\n" });
    await clientLeft;
  },
);
