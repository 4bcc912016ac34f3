// One valid request for each operation that takes a body, a form or a query, with ids that exist on the server; what the
// property tests mutate.
import { createHash } from "node:crypto";
import { form, succeedJob, upload } from "./harness.ts";
import type { TestServer } from "./harness.ts";

export interface FuzzCase {
  /** The operation's id. */
  id: string;
  /** In place of the path's parameters. */
  path?: string;
  body?: unknown;
  query?: Record<string, string>;
}

const grader = {
  type: "multi",
  name: "all",
  graders: {
    exact: {
      type: "string_check",
      name: "exact",
      input: "{{ sample.output_text }}",
      reference: "{{ item.label }}",
      operation: "eq",
    },
    near: {
      type: "text_similarity",
      name: "near",
      input: "{{ sample.output_json.a[0] }}",
      reference: "{{ item.label }}",
      evaluation_metric: "bleu",
      pass_threshold: 0.5,
    },
    judge: {
      type: "score_model",
      name: "judge",
      model: "smollm2-135m-instruct",
      input: [{ role: "user", content: [{ type: "input_text", text: "Rate {{ sample.output_text }}" }] }],
      range: [0, 10],
      sampling_params: { seed: 1, temperature: 0, top_p: 1, max_completions_tokens: 100 },
    },
    label: {
      type: "label_model",
      name: "label",
      model: "smollm2-135m-instruct",
      input: [{ role: "user", content: "Is {{ item.label }} good?" }],
      labels: ["good", "bad"],
      passing_labels: ["good"],
    },
  },
  calculate_output: "(exact + max(near, judge)) / 2 ^ label",
};

export async function fuzzCases(server: TestServer, headers: Record<string, string>): Promise<FuzzCase[]> {
  const training = await upload(server, '{"messages":[]}\n', { headers });
  const batch = await upload(server, '{"custom_id":"a"}\n', { purpose: "batch", headers });
  const post = async (url: string, payload: object) =>
    (await server.app.inject({ method: "POST", url, payload, headers })).json<{ id: string }>();
  const job = { model: "gpt-4o-mini", training_file: training.id };
  const { id: jobId } = await post("/v1/fine_tuning/jobs", job);
  const { model } = await succeedJob(server, jobId);
  const project = await post("/tunesmith/projects", { name: "other" });
  const page = { limit: "2", after: "unknown" };
  const permissions = `/v1/fine_tuning/checkpoints/${encodeURIComponent(model)}/permissions`;
  const messages = [{ role: "user", content: "Hi" }];
  const kept = await post("/v1/chat/completions", { model, messages, store: true, metadata: { team: "a" } });
  const begun = { filename: "a.jsonl", purpose: "fine-tune", bytes: 4, mime_type: "text/jsonl" };
  const pending = await post("/v1/uploads", begun);
  const data = form([{ name: "data", filename: "part", content: "{}\n\n" }]);
  const part = await server.app.inject({
    method: "POST",
    url: `/v1/uploads/${pending.id}/parts`,
    payload: data.payload,
    headers: { ...headers, ...data.headers },
  });
  const response = await post("/v1/responses", { model, input: "Hi" });
  const base = "smollm2-135m-instruct";
  for (const named of [base, model]) await post("/tunesmith/aliases/triage", { model: named });
  await post("/tunesmith/aliases/tried", { model });
  const prompt = {
    model,
    previous_response_id: response.id,
    instructions: "Be brief.",
    input: [
      { role: "user", content: [{ type: "input_text", text: "Look" }] },
      { type: "function_call", call_id: "c1", name: "look", arguments: "{}" },
      { type: "function_call_output", call_id: "c1", output: "found" },
      {
        type: "message",
        role: "assistant",
        content: [{ type: "output_text", text: "Yes", annotations: [] }],
      },
    ],
    tools: [
      { type: "function", name: "look", description: "Looks", parameters: { type: "object" }, strict: false },
    ],
    tool_choice: "auto",
    parallel_tool_calls: false,
    text: { format: { type: "json_schema", name: "a", schema: { type: "object" }, strict: false } },
  };
  return [
    {
      id: "rebaseModel",
      path: `/tunesmith/models/${encodeURIComponent(model)}/rebase`,
      body: { base, suffix: "new", seed: 3 },
    },
    { id: "setAlias", path: "/tunesmith/aliases/other", body: { model, reason: "first" } },
    { id: "rollBackAlias", path: "/tunesmith/aliases/triage/rollback", body: { reason: "worse" } },
    {
      id: "setAliasCandidate",
      path: "/tunesmith/aliases/tried/candidate",
      body: { model: base, mode: "shadow", percent: 12.5, reason: "try" },
    },
    { id: "listAliasMoves", path: "/tunesmith/aliases/triage/moves", query: page },
    { id: "listAliasComparisons", path: "/tunesmith/aliases/triage/comparisons", query: page },
    {
      id: "createUpload",
      body: { ...begun, expires_after: { anchor: "created_at", seconds: 3600 } },
    },
    {
      id: "completeUpload",
      path: `/v1/uploads/${pending.id}/complete`,
      body: {
        part_ids: [part.json<{ id: string }>().id],
        md5: createHash("md5").update("{}\n\n").digest("hex"),
      },
    },
    { id: "listChatCompletions", query: { ...page, order: "asc", model, "metadata[team]": "a" } },
    {
      id: "updateChatCompletion",
      path: `/v1/chat/completions/${kept.id}`,
      body: { metadata: { team: "b", line: "c" } },
    },
    {
      id: "getChatCompletionMessages",
      path: `/v1/chat/completions/${kept.id}/messages`,
      query: { ...page, order: "desc" },
    },
    {
      id: "createCompletion",
      body: {
        model,
        prompt: ["Once", "Twice"],
        max_tokens: 4,
        n: 1,
        best_of: 2,
        echo: true,
        logprobs: 2,
        stop: "END",
        seed: 1,
        temperature: 0.5,
        top_p: 0.9,
        logit_bias: { "5": 1 },
        user: "u",
      },
    },
    {
      id: "createResponse",
      body: {
        ...prompt,
        max_output_tokens: 16,
        temperature: 0.5,
        top_p: 0.9,
        include: ["message.output_text.logprobs"],
        top_logprobs: 2,
        store: true,
        metadata: { team: "a" },
        stream: true,
        user: "u",
      },
    },
    { id: "getInputTokenCounts", body: prompt },
    { id: "getResponse", path: `/v1/responses/${response.id}`, query: { stream: "false" } },
    {
      id: "listInputItems",
      path: `/v1/responses/${response.id}/input_items`,
      query: { ...page, order: "asc" },
    },
    {
      id: "exportModel",
      path: `/tunesmith/models/${encodeURIComponent(model)}/export`,
      query: { format: "gguf", precision: "q8_0" },
    },
    { id: "importModel", query: { name: "tri age", base: "smollm2-135m-instruct" } },
    { id: "listFiles", query: { ...page, order: "asc", purpose: "fine-tune" } },
    {
      id: "createFineTuningJob",
      body: {
        ...job,
        validation_file: training.id,
        suffix: "tri age",
        seed: 7,
        method: {
          type: "supervised",
          supervised: {
            hyperparameters: {
              n_epochs: 2,
              batch_size: "auto",
              learning_rate_multiplier: 1.5,
              lora: { rank: 4, alpha: 8, dropout: 0.1, target_modules: ["q_proj", "v_proj"] },
              max_length: 256,
              early_stopping: { patience: 2 },
              warmup_ratio: 0.1,
              weight_decay: 0.01,
              packing: false,
            },
          },
        },
        hyperparameters: { n_epochs: 2 },
        integrations: [],
        metadata: { team: "a", line: "b" },
      },
    },
    { id: "listPaginatedFineTuningJobs", query: { ...page, "metadata[team]": "a" } },
    { id: "listFineTuningEvents", path: `/v1/fine_tuning/jobs/${jobId}/events`, query: page },
    { id: "listFineTuningJobCheckpoints", path: `/v1/fine_tuning/jobs/${jobId}/checkpoints`, query: page },
    { id: "createFineTuningCheckpointPermission", path: permissions, body: { project_ids: [project.id] } },
    {
      id: "listFineTuningCheckpointPermissions",
      path: permissions,
      query: { ...page, order: "ascending", project_id: project.id },
    },
    { id: "validateGrader", body: { grader } },
    {
      id: "runGrader",
      body: { grader, model_sample: '{"a":["x"]}', item: { label: "x", deep: { y: [1] } } },
    },
    {
      id: "createChatCompletion",
      body: {
        model,
        messages: [
          { role: "system", content: "Answer in json." },
          { role: "user", content: [{ type: "text", text: "Hi" }], name: "ann" },
          {
            role: "assistant",
            content: null,
            tool_calls: [{ id: "c1", type: "function", function: { name: "look", arguments: "{}" } }],
          },
          { role: "tool", content: "found", tool_call_id: "c1" },
        ],
        temperature: 0.5,
        top_p: 0.9,
        n: 2,
        stop: ["END"],
        max_completion_tokens: 16,
        seed: 1,
        stream: true,
        stream_options: { include_usage: true },
        frequency_penalty: 0.1,
        presence_penalty: -0.1,
        logit_bias: { "5": 10 },
        logprobs: true,
        top_logprobs: 2,
        tools: [
          {
            type: "function",
            function: {
              name: "look",
              strict: true,
              parameters: {
                type: "object",
                properties: { a: { type: "string", pattern: "^[a-z]+$" } },
                required: ["a"],
                additionalProperties: false,
              },
            },
          },
        ],
        tool_choice: "auto",
        parallel_tool_calls: false,
        user: "u",
        metadata: {},
      },
    },
    {
      id: "createChatCompletion",
      body: {
        model: "gpt-4o-mini",
        messages: [{ role: "user", content: "json" }],
        response_format: {
          type: "json_schema",
          json_schema: {
            name: "answer",
            strict: false,
            schema: {
              type: "object",
              properties: { a: { anyOf: [{ type: "integer", minimum: 1 }, { $ref: "#/$defs/b" }] } },
              $defs: { b: { enum: ["x", 1, null] } },
            },
          },
        },
      },
    },
    {
      id: "createEmbedding",
      body: {
        model: "all-minilm-l6-v2",
        input: ["a", "b"],
        encoding_format: "base64",
        dimensions: 8,
        user: "u",
      },
    },
    { id: "createEmbedding", body: { model: "text-embedding-3-small", input: [[1, 2], [3]] } },
    {
      id: "createBatch",
      body: {
        input_file_id: batch.id,
        endpoint: "/v1/chat/completions",
        completion_window: "24h",
        metadata: { a: "b" },
        output_expires_after: { anchor: "created_at", seconds: 3600 },
      },
    },
    { id: "listBatches", query: page },
    {
      id: "createWebhook",
      body: { url: "https://hooks.example.com/x", event_types: ["batch.completed", "batch.failed"] },
    },
    {
      id: "createKey",
      body: {
        name: "k",
        scopes: ["read"],
        project_id: project.id,
        requests_per_minute: 5,
        tokens_per_minute: null,
      },
    },
    { id: "listKeys", query: { ...page, project_id: project.id } },
    { id: "createPreflight", body: { ...job, validation_file: training.id, suffix: "a" } },
    { id: "createProject", body: { name: "p", id: null } },
    { id: "listProjects", query: page },
  ];
}

/** The members of a valid upload, for the form test. */
export const UPLOAD_PARTS: Parameters<typeof form>[0] = [
  { name: "purpose", value: "batch" },
  { name: "expires_after[anchor]", value: "created_at" },
  { name: "expires_after[seconds]", value: "3600" },
  { name: "file", filename: "a.jsonl", content: '{"custom_id":"a"}\n' },
];
