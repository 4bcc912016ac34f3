// /tunesmith/aliases: names of a project's own that lead to a model version, moved at one moment, with a log of who moved them and why.
import type { FastifyRequest } from "fastify";
import { Conflict, InvalidRequest } from "../errors.ts";
import type { AliasComparisonStore, Comparison } from "../store/alias-comparisons.ts";
import type { Alias, AliasMove } from "../store/alias-rows.ts";
import { unknownAlias } from "../store/aliases.ts";
import type { AliasStore, Change } from "../store/aliases.ts";
import {
  isAliasName,
  listAliasesQuery,
  rollBackAliasRequest,
  setAliasRequest,
  setCandidateRequest,
} from "../wire/aliases.ts";
import type { AliasDeleted, AliasMoveObject, AliasObject, ComparisonObject } from "../wire/aliases.ts";
import { listOf, listWithIds } from "../wire/list.ts";
import type { List, ListWithIds } from "../wire/list.ts";
import { parseRequest } from "../wire/validation.ts";
import { callerName } from "./authentication.ts";
import type { ModelDirectory } from "./model-directory.ts";
import { unknownModel } from "./models.ts";

export function aliasRoutes(parts: {
  aliases: AliasStore;
  comparisons: AliasComparisonStore;
  directory: ModelDirectory;
}) {
  const { aliases, comparisons, directory } = parts;

  function changeBy(request: FastifyRequest, reason?: string | null): Change {
    return {
      ...{ projectId: request.project, name: aliasName(request), reason: reason ?? null },
      by: callerName(request),
    };
  }

  /** The version that a request names; an alias would make a chain, in which nobody sees what is moved. */
  async function versionOf(request: FastifyRequest, name: string): Promise<string> {
    const found = await directory.find(request.project, name);
    if (found === null) throw unknownModel(name);
    if (found.aliasOf !== undefined) {
      throw new InvalidRequest(
        `Invalid 'model': '${name}' is an alias itself. Name the model it leads to now: '${found.aliasOf}'.`,
        { code: "invalid_value", param: "model" },
      );
    }
    if (directory.resolveEmbedding(name) !== null) {
      throw new InvalidRequest(
        `Invalid 'model': '${name}' makes embeddings and writes no text. Name a model that does; GET /v1/models lists them.`,
        { code: "invalid_value", param: "model" },
      );
    }
    return name;
  }

  async function existing(request: FastifyRequest): Promise<Alias> {
    const name = aliasName(request);
    const alias = await aliases.get(request.project, name);
    if (alias === null) throw unknownAlias(name);
    return alias;
  }

  return {
    list: async (request: FastifyRequest): Promise<List<AliasObject>> => {
      return listOf((await aliases.list(request.project)).map(toAliasObject), false);
    },

    retrieve: async (request: FastifyRequest): Promise<AliasObject> => toAliasObject(await existing(request)),

    set: async (request: FastifyRequest): Promise<AliasObject> => {
      const { model, reason } = parseRequest(setAliasRequest, request.body);
      const name = aliasName(request);
      if (!isAliasName(name)) {
        throw new InvalidRequest(
          `Invalid alias '${name.slice(0, 80)}': expected 1 to 200 letters, digits, dots, hyphens, underscores and colons, the first a letter or digit.`,
          { code: "invalid_value", param: "alias" },
        );
      }
      if (directory.resolveBase(name) !== null || directory.resolveEmbedding(name) !== null) {
        throw new Conflict(
          `The name '${name}' already leads to a base model, by the server's settings or as its own name (TUNESMITH_MODEL_ALIASES). Choose another name, or change the settings.`,
        );
      }
      const version = await versionOf(request, model);
      return toAliasObject(await aliases.set(changeBy(request, reason), version));
    },

    rollBack: async (request: FastifyRequest): Promise<AliasObject> => {
      const { reason } = parseRequest(rollBackAliasRequest, request.body ?? {});
      return toAliasObject(await aliases.rollBack(changeBy(request, reason)));
    },

    setCandidate: async (request: FastifyRequest): Promise<AliasObject> => {
      const { model, mode, percent, reason } = parseRequest(setCandidateRequest, request.body);
      await existing(request);
      const version = await versionOf(request, model);
      return toAliasObject(
        await aliases.setCandidate(changeBy(request, reason), { model: version, mode, percent }),
      );
    },

    removeCandidate: async (request: FastifyRequest): Promise<AliasObject> => {
      return toAliasObject(await aliases.setCandidate(changeBy(request), null));
    },

    delete: async (request: FastifyRequest): Promise<AliasDeleted> => {
      const change = changeBy(request);
      if (!(await aliases.delete(change))) throw unknownAlias(change.name);
      return { id: change.name, object: "tunesmith.alias.deleted", deleted: true };
    },

    moves: async (request: FastifyRequest): Promise<ListWithIds<AliasMoveObject>> => {
      const name = aliasName(request);
      const page = await aliases.moves(request.project, name, parseRequest(listAliasesQuery, request.query));
      // The log of a deleted alias stays; of one that never was there is none.
      if (page.data.length === 0) await existing(request);
      return listWithIds(page.data.map(toMoveObject), page.hasMore);
    },

    comparisons: async (request: FastifyRequest): Promise<ListWithIds<ComparisonObject>> => {
      const query = parseRequest(listAliasesQuery, request.query);
      const { name } = await existing(request);
      const page = await comparisons.list(request.project, name, query);
      return listWithIds(page.data.map(toComparisonObject), page.hasMore);
    },
  };
}

const aliasName = (request: FastifyRequest) => (request.params as { alias: string }).alias;

function toAliasObject({ name, createdAt, movedAt, model, previousModel, candidate }: Alias): AliasObject {
  return {
    id: name,
    object: "tunesmith.alias",
    created_at: createdAt,
    moved_at: movedAt,
    model,
    previous_model: previousModel,
    candidate:
      candidate === null
        ? null
        : {
            model: candidate.model,
            mode: candidate.mode,
            percent: candidate.percent,
            created_at: candidate.createdAt,
            compared: candidate.compared,
            equal: candidate.equal,
            mean_similarity: candidate.meanSimilarity,
          },
  };
}

function toMoveObject(move: AliasMove): AliasMoveObject {
  const { id, action, mode, percent, by, reason } = move;
  return {
    ...{ id, object: "tunesmith.alias.move", created_at: move.createdAt, action },
    ...{ from_model: move.fromModel, to_model: move.toModel, mode, percent, by, reason },
  };
}

function toComparisonObject(comparison: Comparison): ComparisonObject {
  const { id, requestId, model, candidate, equal, similarity, question, answer } = comparison;
  return {
    ...{ id, object: "tunesmith.alias.comparison", created_at: comparison.createdAt, request_id: requestId },
    ...{ model, candidate, equal, similarity, question, answer },
    candidate_answer: comparison.candidateAnswer,
    completion_tokens: comparison.completionTokens,
    candidate_completion_tokens: comparison.candidateCompletionTokens,
  };
}
