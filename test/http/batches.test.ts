// Batches through the official client: from the input file to the output files, and everything that can be wrong with a file.
import OpenAI from "openai";
import { expect, test } from "vitest";
import { batchServer, createBatch, outputOf, requestLine, settled } from "./batch-harness.ts";
import { BASE_MODEL, upload } from "./harness.ts";

const MONTH_SECONDS = 2_592_000;

test("a batch from creation to its files", async () => {
  const { client } = await batchServer();
  const lines = ["one", "two", "three"].map((id) => requestLine(id));
  const created = await createBatch(client, [...lines, "", "  "], { metadata: { run: "7" } });
  expect(created).toEqual({
    id: expect.stringMatching(/^batch_[0-9a-f]{32}$/) as string,
    object: "batch",
    endpoint: "/v1/chat/completions",
    model: null,
    errors: null,
    input_file_id: created.input_file_id,
    completion_window: "24h",
    status: "validating",
    output_file_id: null,
    error_file_id: null,
    created_at: expect.any(Number) as number,
    in_progress_at: null,
    expires_at: created.created_at + 86_400,
    finalizing_at: null,
    completed_at: null,
    failed_at: null,
    expired_at: null,
    cancelling_at: null,
    cancelled_at: null,
    request_counts: { total: 0, completed: 0, failed: 0 },
    usage: {
      input_tokens: 0,
      input_tokens_details: { cached_tokens: 0 },
      output_tokens: 0,
      output_tokens_details: { reasoning_tokens: 0 },
      total_tokens: 0,
    },
    metadata: { run: "7" },
  });

  const batch = await settled(client, created.id);
  expect(batch).toMatchObject({
    status: "completed",
    model: BASE_MODEL,
    errors: null,
    error_file_id: null,
    request_counts: { total: 3, completed: 3, failed: 0 },
    // The fake engine reads 7 tokens and says 3.
    usage: { input_tokens: 21, output_tokens: 9, total_tokens: 30 },
  });
  const times = [batch.created_at, batch.in_progress_at, batch.finalizing_at, batch.completed_at];
  expect(times).toEqual([...times].sort((a, b) => Number(a) - Number(b)));
  expect(times.every((time) => typeof time === "number")).toBe(true);

  const file = await client.files.retrieve(batch.output_file_id ?? "");
  expect(file).toMatchObject({ purpose: "batch_output", filename: `${batch.id}_output.jsonl` });
  expect(file.expires_at).toBe(file.created_at + MONTH_SECONDS);
  const output = await outputOf(client, batch.output_file_id);
  expect([...output.keys()].sort()).toEqual(["one", "three", "two"]);
  expect(output.get("two")).toMatchObject({
    id: expect.stringMatching(/^batch_req_[0-9a-f]{32}$/) as string,
    response: {
      status_code: 200,
      request_id: expect.stringMatching(/^req_/) as string,
      body: { object: "chat.completion", choices: [{ message: { content: "Hello there!" } }] },
    },
    error: null,
  });
});

test("a line that is answered with an error goes to the error file", async () => {
  const { client } = await batchServer();
  const bad = { body: { model: BASE_MODEL, messages: [{ role: "user", content: "x" }], temperature: 9 } };
  const created = await createBatch(client, [requestLine("good"), requestLine("bad", bad)], {
    output_expires_after: { anchor: "created_at", seconds: 3600 },
  });
  const batch = await settled(client, created.id);
  expect(batch).toMatchObject({
    status: "completed",
    request_counts: { total: 2, completed: 1, failed: 1 },
    usage: { total_tokens: 10 },
  });
  expect([...(await outputOf(client, batch.output_file_id)).keys()]).toEqual(["good"]);
  const errors = await outputOf(client, batch.error_file_id);
  expect([...errors.keys()]).toEqual(["bad"]);
  expect(errors.get("bad")).toMatchObject({
    response: { status_code: 400, body: { error: { param: "temperature" } } },
    error: null,
  });
  const file = await client.files.retrieve(batch.error_file_id ?? "");
  expect(file.expires_at).toBe(file.created_at + 3600);
});

test("a batch without a success has no output file", async () => {
  const { client } = await batchServer();
  const bad = { body: { model: BASE_MODEL, messages: [] } };
  const batch = await settled(client, (await createBatch(client, [requestLine("bad", bad)])).id);
  expect(batch).toMatchObject({ status: "completed", output_file_id: null });
  expect((await outputOf(client, batch.error_file_id)).size).toBe(1);
});

const otherModel = { body: { model: "gpt-4o-mini", messages: [] } };
const FAULTS: { what: string; lines: string[] | string; errors: object[] }[] = [
  { what: "an empty file", lines: "", errors: [{ code: "empty_file", line: null, param: "input_file_id" }] },
  { what: "a file of empty lines", lines: "\n \n", errors: [{ code: "empty_file" }] },
  {
    what: "lines that are no JSON",
    lines: [requestLine("a"), "{oops", requestLine("b"), '{"custom_id":'],
    errors: [
      {
        code: "invalid_json_line",
        line: 2,
        param: null,
        message: "This line is not parseable as valid JSON.",
      },
      { code: "invalid_json_line", line: 4 },
    ],
  },
  {
    what: "a line that nests too deep",
    lines: [`{"custom_id":"a","body":${"[".repeat(20_000)}${"]".repeat(20_000)}}`],
    errors: [{ code: "invalid_value", line: 1, param: null }],
  },
  {
    what: "a line that is no object",
    lines: ["[]"],
    errors: [{ code: "invalid_type", line: 1, param: null }],
  },
  {
    what: "an id used twice",
    lines: [requestLine("a"), requestLine("b"), requestLine("a")],
    errors: [
      {
        code: "duplicate_custom_id",
        line: 3,
        param: "custom_id",
        message:
          "The custom_id 'a' is used by an earlier line too. Each request of a batch needs a custom_id of its own.",
      },
    ],
  },
  {
    what: "missing members",
    lines: [
      requestLine("a", { custom_id: undefined }),
      requestLine("b", { method: undefined }),
      requestLine("c", { url: undefined }),
      requestLine("d", { body: undefined }),
      requestLine("e", { body: {} }),
    ],
    errors: ["custom_id", "method", "url", "body", "body.model"].map((param, i) => ({
      code: "missing_required_parameter",
      message: `Missing required parameter: '${param}'.`,
      param,
      line: i + 1,
    })),
  },
  {
    what: "a member that does not exist",
    lines: [requestLine("a", { priority: 1 })],
    errors: [{ code: "unknown_parameter", param: "priority", line: 1 }],
  },
  {
    what: "another method",
    lines: [requestLine("a", { method: "GET" })],
    errors: [
      {
        code: "invalid_value",
        param: "method",
        line: 1,
        message: "Invalid value for 'method': 'GET'. Supported values are: 'POST'.",
      },
    ],
  },
  {
    what: "another url",
    lines: [requestLine("a", { url: "/v1/embeddings" })],
    errors: [
      {
        code: "url_mismatch",
        param: "url",
        line: 1,
        message:
          "The url '/v1/embeddings' is not the batch's endpoint, which is '/v1/chat/completions'. All lines of a batch go to one endpoint.",
      },
    ],
  },
  {
    what: "two models",
    lines: [requestLine("a"), requestLine("b", otherModel)],
    errors: [
      {
        code: "model_mismatch",
        param: "body.model",
        line: 2,
        message: `The model 'gpt-4o-mini' is not that of the first line, '${BASE_MODEL}'. A batch runs on one model: make a file for each.`,
      },
    ],
  },
  {
    what: "an unknown model",
    lines: [requestLine("a", { body: { model: "gpt-9", messages: [] } })],
    errors: [
      {
        code: "model_not_found",
        param: "body.model",
        line: 1,
        message: "The model 'gpt-9' does not exist.",
      },
    ],
  },
  {
    what: "a stream",
    lines: [requestLine("a", { body: { model: BASE_MODEL, messages: [], stream: true } })],
    errors: [{ code: "unsupported_value", param: "body.stream", line: 1 }],
  },
];

test.each(FAULTS)("$what: the batch fails and says where", async ({ lines, errors }) => {
  const { client, server } = await batchServer();
  const batch = await settled(client, (await createBatch(client, lines)).id);
  expect(batch).toMatchObject({
    status: "failed",
    in_progress_at: null,
    output_file_id: null,
    error_file_id: null,
    request_counts: { total: 0, completed: 0, failed: 0 },
    errors: { object: "list" },
  });
  expect(batch.failed_at).toBeTypeOf("number");
  expect(batch.errors?.data).toMatchObject(errors);
  expect(batch.errors?.data).toHaveLength(errors.length);
  expect(server.engine.requests).toEqual([]);
});

test("more lines than a batch may have, and more faults than a list shows", async () => {
  const { client } = await batchServer();
  const many = Array.from({ length: 50_001 }, (_, i) => requestLine(`r${i}`));
  const long = await settled(client, (await createBatch(client, many)).id);
  expect(long.errors?.data).toEqual([
    {
      code: "too_many_tasks",
      line: null,
      param: "input_file_id",
      message:
        "The input file has more than 50000 lines, the most that a batch may have. Split the file and create a batch for each part.",
    },
  ]);
  const bad = await settled(client, (await createBatch(client, "x\n".repeat(500))).id);
  expect(bad.errors?.data).toHaveLength(100);
}, 30_000);

test("a line above the largest request", async () => {
  const { client } = await batchServer({ maxBodyBytes: 1000 });
  const long = requestLine("a", { body: { model: BASE_MODEL, messages: [], user: "x".repeat(1000) } });
  const batch = await settled(client, (await createBatch(client, [long])).id);
  expect(batch.errors?.data).toMatchObject([
    {
      code: "request_too_large",
      line: 1,
      message: "This line is longer than 1000 bytes, the most that a request may have. Shorten it.",
    },
  ]);
});

const WRONG: { what: string; changes: object; error: { param: string; code: string | null } }[] = [
  {
    what: "an endpoint that this server lacks",
    changes: { endpoint: "/v1/videos" },
    error: { param: "endpoint", code: "invalid_value" },
  },
  {
    what: "another window",
    changes: { completion_window: "48h" },
    error: { param: "completion_window", code: "invalid_value" },
  },
  {
    what: "an unknown file",
    changes: { input_file_id: "file-nope" },
    error: { param: "input_file_id", code: null },
  },
  {
    what: "too short a life of the output",
    changes: { output_expires_after: { anchor: "created_at", seconds: 3599 } },
    error: { param: "output_expires_after.seconds", code: "integer_below_min_value" },
  },
  {
    what: "an unknown parameter",
    changes: { priority: "high" },
    error: { param: "priority", code: "unknown_parameter" },
  },
];

test.each(WRONG)("creating with $what is refused", async ({ changes, error }) => {
  const { client } = await batchServer({}, { runsBatches: false });
  const refused: unknown = await createBatch(client, [requestLine("a")], changes).catch((e: unknown) => e);
  expect(refused).toBeInstanceOf(OpenAI.BadRequestError);
  expect(refused).toMatchObject(error);
});

test("a file for another purpose is refused, a missing endpoint names those there are", async () => {
  const { client, server } = await batchServer({}, { runsBatches: false });
  const file = await upload(server);
  const create = (changes: object) =>
    client.batches
      .create({
        input_file_id: file.id,
        endpoint: "/v1/chat/completions",
        completion_window: "24h",
        ...changes,
      })
      .catch((error: unknown) => error);
  expect(await create({})).toMatchObject({
    status: 400,
    param: "input_file_id",
    message: `400 Invalid 'input_file_id': ${file.id} was uploaded with purpose 'fine-tune'. Upload it with purpose 'batch'.`,
  });
  expect(await create({ endpoint: "/v1/nothing" })).toMatchObject({
    message: expect.stringContaining(
      "Supported values are: '/v1/responses', '/v1/chat/completions'",
    ) as string,
  });
});

test("batches are listed newest first, page by page", async () => {
  const { client } = await batchServer({}, { runsBatches: false });
  const ids: string[] = [];
  for (const id of ["a", "b", "c"]) ids.unshift((await createBatch(client, [requestLine(id)])).id);
  const page = (await (await client.batches.list({ limit: 2 }).asResponse()).json()) as object;
  expect(page).toMatchObject({ object: "list", has_more: true, first_id: ids[0], last_id: ids[1] });
  const seen: string[] = [];
  for await (const batch of client.batches.list({ limit: 2 })) seen.push(batch.id);
  expect(seen).toEqual(ids);
  const wrong = client.batches.list({ after: "batch_nope" });
  await expect(wrong).rejects.toMatchObject({ status: 400, param: "after" });
  await expect(client.batches.list({ limit: 101 })).rejects.toMatchObject({ status: 400, param: "limit" });
});

test("an unknown batch is unknown everywhere", async () => {
  const { client } = await batchServer({}, { runsBatches: false });
  for (const call of [client.batches.retrieve("batch_nope"), client.batches.cancel("batch_nope")]) {
    const error: unknown = await call.catch((e: unknown) => e);
    expect(error).toBeInstanceOf(OpenAI.NotFoundError);
    expect(error).toMatchObject({ message: "404 No batch found with id 'batch_nope'.", param: null });
  }
});

test("the secret of the server's own requests cannot be guessed from outside", async () => {
  const { server } = await batchServer({ apiKeys: ["sk-local-0123456789"] });
  for (const secret of ["", "0".repeat(64), "undefined"]) {
    const answer = await server.app.inject({
      url: "/v1/models",
      headers: { "x-tunesmith-own-request": secret, "x-tunesmith-own-project": "proj_x" },
    });
    expect(answer.statusCode).toBe(401);
  }
});
