// Chat completions over HTTP: what reaches the engine, whole answers, and which model answers.
import { expect, test } from "vitest";
import { ask, BASE_MODEL, succeedJob, testServer, upload } from "./harness.ts";

test("a whole answer has OpenAI's members", async () => {
  const server = await testServer();
  const answer = await ask(server, { model: "gpt-4o-mini" });
  expect(answer.statusCode).toBe(200);
  expect(answer.json()).toEqual({
    id: expect.stringMatching(/^chatcmpl-[A-Za-z0-9]{29}$/) as string,
    object: "chat.completion",
    created: expect.any(Number) as number,
    model: "gpt-4o-mini-2024-07-18",
    choices: [
      {
        index: 0,
        message: { role: "assistant", content: "Hello there!", refusal: null, annotations: [] },
        logprobs: null,
        finish_reason: "stop",
      },
    ],
    usage: {
      prompt_tokens: 7,
      completion_tokens: 3,
      total_tokens: 10,
      prompt_tokens_details: { cached_tokens: 0, audio_tokens: 0 },
      completion_tokens_details: {
        reasoning_tokens: 0,
        audio_tokens: 0,
        accepted_prediction_tokens: 0,
        rejected_prediction_tokens: 0,
      },
    },
    service_tier: "default",
    system_fingerprint: expect.stringMatching(/^fp_[0-9a-f]{10}$/) as string,
  });
});

test("every parameter reaches the engine, and an earlier answer may be sent back as it came", async () => {
  const server = await testServer();
  const earlier = {
    role: "assistant",
    content: "A",
    refusal: null,
    annotations: [],
    audio: null,
    tool_calls: null,
  };
  const answer = await ask(server, {
    messages: [
      {
        role: "developer",
        content: [
          { type: "text", text: "Be " },
          { type: "text", text: "brief." },
        ],
      },
      { role: "user", content: "Q", name: "ann" },
      earlier,
      { role: "user", content: "Q2" },
    ],
    temperature: 0,
    top_p: 0.5,
    seed: 7,
    stop: "END",
    max_completion_tokens: 9,
    n: 2,
    user: "u",
    tools: [],
    response_format: { type: "text" },
    logprobs: true,
    top_logprobs: 3,
    presence_penalty: -1,
    frequency_penalty: 0.5,
    logit_bias: { "7": -100, "9": 5 },
    store: false,
  });
  expect(answer.statusCode, answer.body).toBe(200);
  expect(answer.json<{ choices: unknown[] }>().choices).toHaveLength(2);
  const { signal, ...request } = server.engine.requests[0] ?? {};
  expect(signal).toBeInstanceOf(AbortSignal);
  expect(request).toEqual({
    model: {
      id: BASE_MODEL,
      baseModel: { id: BASE_MODEL, path: `/models/${BASE_MODEL}` },
      adapterPath: null,
    },
    messages: [
      { role: "developer", content: "Be brief." },
      { role: "user", content: "Q", name: "ann" },
      { role: "assistant", content: "A" },
      { role: "user", content: "Q2" },
    ],
    temperature: 0,
    topP: 0.5,
    seed: 7,
    stop: ["END"],
    maxTokens: 9,
    n: 2,
    topLogprobs: 3,
    presencePenalty: -1,
    frequencyPenalty: 0.5,
    logitBias: new Map([
      [7, -100],
      [9, 5],
    ]),
  });
});

test("left-out and null parameters take OpenAI's defaults", async () => {
  const server = await testServer();
  await ask(server, {
    temperature: null,
    top_p: null,
    n: null,
    stop: null,
    seed: null,
    max_tokens: null,
    stream: null,
  });
  expect(server.engine.requests[0]).toMatchObject({
    temperature: 1,
    topP: 1,
    n: 1,
    stop: [],
    seed: null,
    maxTokens: null,
  });
});

test("an unknown model is 404 and never the base model", async () => {
  const server = await testServer();
  const answer = await ask(server, { model: "ft:gpt-4o-mini-2024-07-18:personal::nobody00" });
  expect(answer.statusCode).toBe(404);
  expect(answer.json()).toMatchObject({
    error: {
      code: "model_not_found",
      message:
        "The model 'ft:gpt-4o-mini-2024-07-18:personal::nobody00' does not exist or you do not have access to it.",
    },
  });
  expect(server.engine.requests).toEqual([]);
});

test("a fine-tuned model and its checkpoint answer with their own adapters", async () => {
  const server = await testServer();
  const { id } = await upload(server);
  const job = await server.app.inject({
    method: "POST",
    url: "/v1/fine_tuning/jobs",
    payload: { model: "gpt-4o-mini", training_file: id },
  });
  const jobId = job.json<{ id: string }>().id;
  const { model, checkpoint } = await succeedJob(server, jobId);
  for (const name of [model, checkpoint]) {
    expect((await ask(server, { model: name })).json()).toMatchObject({ model: name });
  }
  expect(server.engine.requests.map((request) => request.model.adapterPath)).toEqual([
    `${server.home}/jobs/${jobId}/finalAAA`,
    `${server.home}/jobs/${jobId}/earlyBBB`,
  ]);
});
