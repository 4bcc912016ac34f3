// /v1/fine_tuning/alpha/graders: validate and run. How a grader grades, the room evals knows; here its result becomes the
// answer, and a judge is a chat request to this server's own engine.
import type { FastifyReply, FastifyRequest } from "fastify";
import type { GradingFault } from "../evals/grading-fault.ts";
import { Grading } from "../evals/grading.ts";
import type { Grade, GradingParts } from "../evals/grading.ts";
import type { CompleteRequest, Completion } from "../evals/model-graders.ts";
import { PythonServerFault } from "../evals/python-graders.ts";
import { sampleOfText } from "../evals/sample.ts";
import { createEmbedTexts } from "../serving/embedding-engine.ts";
import type { EmbeddingEngine } from "../serving/embedding-engine.ts";
import type { ChatEngine } from "../serving/engine.ts";
import { runGraderRequest, validateGraderRequest } from "../wire/graders.ts";
import type {
  Grader,
  GraderErrors,
  GraderTokenUsage,
  RunGraderResponse,
  ValidateGraderResponse,
} from "../wire/graders.ts";
import { parseRequest } from "../wire/validation.ts";
import { newAnswerHead, toCompletionRequest } from "./chat-answers.ts";
import { whenClientLeaves } from "./chat.ts";
import type { ModelDirectory } from "./model-directory.ts";
import { collect } from "./whole-answer.ts";

/** What graders use beside the chat engine. */
export type GraderMeans = Pick<GradingParts, "python" | "synonyms">;

/** The model whose embeddings OpenAI's cosine compares; here an alias of a local one. */
const COSINE_MODEL = "text-embedding-3-large";

export function graderRoutes(parts: {
  engine: ChatEngine;
  embeddingEngine: EmbeddingEngine;
  directory: ModelDirectory;
  graders: GraderMeans;
  /** Aborts when the server's grace for requests in flight is over. */
  stopping: AbortSignal;
}) {
  const { engine, embeddingEngine, directory, graders, stopping } = parts;
  /** A judge may be a model of the project that asks, so the means differ between projects; making them costs nothing. */
  const gradingOf = (projectId: string) =>
    new Grading({
      ...graders,
      embed:
        directory.resolveEmbedding(COSINE_MODEL) === null
          ? null
          : createEmbedTexts(
              embeddingEngine,
              async (signal) => (await directory.serveEmbeddings(projectId, COSINE_MODEL, signal)).model,
            ),
      // Embedding models are models too, but write nothing.
      isModel: async (name) =>
        directory.resolveEmbedding(name) === null && (await directory.find(projectId, name)) !== null,
      complete: (request) => askJudge(engine, directory, projectId, request),
    });
  return {
    validate: async (request: FastifyRequest, reply: FastifyReply): Promise<ValidateGraderResponse> => {
      const { grader } = parseRequest(validateGraderRequest, request.body);
      const grading = gradingOf(request.project);
      await grading.requireMeans(grader, "grader");
      await grading.check(grader, "grader", AbortSignal.any([stopping, whenClientLeaves(reply)]));
      return { grader };
    },

    run: async (request: FastifyRequest, reply: FastifyReply): Promise<RunGraderResponse> => {
      const body = parseRequest(runGraderRequest, request.body);
      const grading = gradingOf(request.project);
      await grading.requireMeans(body.grader, "grader");
      const start = performance.now();
      const grade = await grading.grade(
        body.grader,
        { item: body.item ?? {}, sample: sampleOfText(body.model_sample) },
        AbortSignal.any([stopping, whenClientLeaves(reply)]),
      );
      request.spendTokens(
        grade.completions.reduce((sum, each) => sum + each.promptTokens + each.completionTokens, 0),
      );
      for (const fault of grade.faults) {
        // The others are the grader's own business; these two are the operator's as well.
        if (fault.flag !== "python_grader_server_error" && fault.flag !== "model_grader_server_error")
          continue;
        request.log.warn({ flag: fault.flag, reason: fault.message }, "A grader could not be run");
      }
      return toRunResponse(body.grader, grade, (performance.now() - start) / 1000);
    },
  };
}

/** A chat request like any client's, without the socket. */
async function askJudge(
  engine: ChatEngine,
  directory: ModelDirectory,
  projectId: string,
  request: CompleteRequest,
): Promise<Completion> {
  const model = await directory.serve(projectId, request.model, request.signal);
  const asked = toCompletionRequest(
    {
      model: request.model,
      messages: request.messages.map((message) => ({ ...message })),
      max_completion_tokens: request.maxTokens,
      temperature: request.temperature,
      top_p: request.topP,
      seed: request.seed,
      response_format: {
        type: "json_schema",
        json_schema: { name: request.schema.name, schema: { ...request.schema.schema }, strict: true },
      },
    },
    model,
    request.signal,
  );
  const { choices, usage } = await collect(newAnswerHead(model), engine.complete(asked), asked);
  return {
    text: choices[0]?.message.content ?? "",
    refusal: choices[0]?.message.refusal ?? null,
    model: model.id,
    promptTokens: usage.prompt_tokens,
    completionTokens: usage.completion_tokens,
    cachedTokens: usage.prompt_tokens_details.cached_tokens,
  };
}

function toRunResponse(grader: Grader, grade: Grade, seconds: number): RunGraderResponse {
  const { completions } = grade;
  const models = [...new Set(completions.map(({ model }) => model))];
  return {
    reward: grade.score,
    metadata: {
      name: grader.name,
      type: grader.type,
      errors: toErrors(grade.faults),
      execution_time: seconds,
      scores: { ...grade.subScores },
      token_usage: completions.length === 0 ? null : toTokenUsage(completions),
      // Several judges have no one name.
      sampled_model_name: models.length === 1 ? (models[0] ?? null) : null,
    },
    sub_rewards: { ...grade.subScores },
    model_grader_token_usage_per_model: Object.fromEntries(
      models.map((model) => [model, toTokenUsage(completions.filter((each) => each.model === model))]),
    ),
  };
}

function toTokenUsage(completions: readonly Completion[]): GraderTokenUsage {
  const sum = (count: (completion: Completion) => number) =>
    completions.reduce((total, each) => total + count(each), 0);
  return {
    prompt_tokens: sum(({ promptTokens }) => promptTokens),
    total_tokens: sum(({ promptTokens, completionTokens }) => promptTokens + completionTokens),
    completion_tokens: sum(({ completionTokens }) => completionTokens),
    cached_tokens: sum(({ cachedTokens }) => cachedTokens),
  };
}

function toErrors(faults: readonly GradingFault[]): GraderErrors {
  const has = (flag: GradingFault["flag"]) => faults.some((fault) => fault.flag === flag);
  const details = (flag: GradingFault["flag"]) =>
    has(flag)
      ? faults
          .filter((fault) => fault.flag === flag)
          .map(({ message }) => message)
          .join("\n")
      : null;
  return {
    formula_parse_error: has("formula_parse_error"),
    sample_parse_error: has("sample_parse_error"),
    truncated_observation_error: has("truncated_observation_error"),
    unresponsive_reward_error: has("unresponsive_reward_error"),
    invalid_variable_error: has("invalid_variable_error"),
    other_error: has("other_error"),
    python_grader_server_error: has("python_grader_server_error"),
    python_grader_server_error_type: faults.find((fault) => fault instanceof PythonServerFault)?.type ?? null,
    python_grader_runtime_error: has("python_grader_runtime_error"),
    python_grader_runtime_error_details: details("python_grader_runtime_error"),
    model_grader_server_error: has("model_grader_server_error"),
    model_grader_refusal_error: has("model_grader_refusal_error"),
    model_grader_parse_error: has("model_grader_parse_error"),
    model_grader_server_error_details: details("model_grader_server_error"),
  };
}
