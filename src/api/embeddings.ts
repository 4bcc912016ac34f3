// /v1/embeddings. Which model answers, the directory says; the vectors are the engine's.
import type { FastifyReply, FastifyRequest } from "fastify";
import { InvalidRequest } from "../errors.ts";
import type { EmbeddingEngine } from "../serving/embedding-engine.ts";
import { createEmbeddingRequest } from "../wire/embeddings.ts";
import type { EmbeddingList } from "../wire/embeddings.ts";
import { parseRequest } from "../wire/validation.ts";
import { whenClientLeaves } from "./chat.ts";
import type { ModelDirectory } from "./model-directory.ts";

export function embeddingRoutes(parts: {
  embeddingEngine: EmbeddingEngine;
  directory: ModelDirectory;
  /** Aborts when the server's grace for requests in flight is over. */
  stopping: AbortSignal;
}) {
  const { embeddingEngine, directory, stopping } = parts;
  return {
    create: async (request: FastifyRequest, reply: FastifyReply): Promise<EmbeddingList> => {
      const body = parseRequest(createEmbeddingRequest, request.body);
      const dimensions = body.dimensions ?? null;
      if (dimensions !== null) checkDimensions(dimensions);
      const signal = AbortSignal.any([stopping, whenClientLeaves(reply)]);
      const { name, model, hasOwnTokens } = await directory.serveEmbeddings(
        request.project,
        body.model,
        signal,
      );
      if (!hasOwnTokens && body.input.some((one) => typeof one !== "string")) {
        throw new InvalidRequest(
          `Invalid 'input': the token ids of '${name}' are OpenAI's, and ${model.id}, which answers here, has another vocabulary. Send texts, or name '${model.id}' and send its own token ids.`,
          { code: "invalid_value", param: "input" },
        );
      }
      const { vectors, tokenCount } = await embeddingEngine.embed({
        model,
        inputs: body.input,
        dimensions,
        signal,
      });
      request.spendTokens(tokenCount);
      const print = body.encoding_format === "base64" ? toBase64 : (vector: Float32Array) => [...vector];
      return {
        object: "list",
        data: vectors.map((vector, index) => ({ object: "embedding", index, embedding: print(vector) })),
        model: name,
        usage: { prompt_tokens: tokenCount, total_tokens: tokenCount },
      };
    },
  };
}

/** OpenAI's words, which name no parameter in the envelope. */
function checkDimensions(dimensions: number): void {
  if (!Number.isInteger(dimensions)) {
    throw new InvalidRequest(`${dimensions} is not of type 'integer' - 'dimensions'`);
  }
  if (dimensions < 1) throw new InvalidRequest(`${dimensions} is less than the minimum of 1 - 'dimensions'`);
}

/** Little-endian float32, whatever this machine's own order is. */
function toBase64(vector: Float32Array): string {
  const bytes = Buffer.alloc(vector.length * 4);
  for (const [i, value] of vector.entries()) bytes.writeFloatLE(value, i * 4);
  return bytes.toString("base64");
}
