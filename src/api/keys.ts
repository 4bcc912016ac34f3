// /tunesmith/projects and /tunesmith/keys: our own addition, for admin keys. They reach over all projects.
import type { FastifyRequest } from "fastify";
import { InvalidRequest, NotFound } from "../errors.ts";
import type { ApiKey, ApiKeyStore } from "../store/api-keys.ts";
import type { Project, ProjectStore } from "../store/projects.ts";
import { createKeyRequest, createProjectRequest, listKeysQuery, listProjectsQuery } from "../wire/keys.ts";
import type { KeyDeleted, KeyObject, NewKeyObject, ProjectObject } from "../wire/keys.ts";
import { listWithIds } from "../wire/list.ts";
import type { ListWithIds } from "../wire/list.ts";
import { parseRequest } from "../wire/validation.ts";

export function keyRoutes(parts: {
  keys: ApiKeyStore;
  projects: ProjectStore;
  /** Of the settings: they are admin keys too. */
  apiKeys: readonly string[];
}) {
  const { keys, projects } = parts;
  const adminElsewhere = parts.apiKeys.length > 0;
  return {
    createProject: async (request: FastifyRequest): Promise<ProjectObject> => {
      const { name, id = null } = parseRequest(createProjectRequest, request.body);
      return toProjectObject(await projects.create({ name, id }));
    },

    listProjects: async (request: FastifyRequest): Promise<ListWithIds<ProjectObject>> => {
      const page = await projects.list(parseRequest(listProjectsQuery, request.query));
      return listWithIds(page.data.map(toProjectObject), page.hasMore);
    },

    create: async (request: FastifyRequest): Promise<NewKeyObject> => {
      if (request.headers["idempotency-key"] !== undefined) {
        throw new InvalidRequest(
          "'Idempotency-Key' cannot be used here: an answer would have to be kept, and this one holds a secret that is shown once. Leave the header out.",
        );
      }
      const body = parseRequest(createKeyRequest, request.body);
      const projectId = body.project_id ?? request.project;
      if (!(await projects.exists(projectId))) {
        throw new InvalidRequest(
          `No project has the id '${projectId.slice(0, 80)}'. GET /tunesmith/projects lists those there are.`,
          { param: "project_id" },
        );
      }
      const { key, secret } = await keys.create(
        {
          projectId,
          name: body.name ?? null,
          scopes: body.scopes,
          requestsPerMinute: body.requests_per_minute ?? null,
          tokensPerMinute: body.tokens_per_minute ?? null,
        },
        adminElsewhere,
      );
      return { ...toKeyObject(key), key: secret };
    },

    list: async (request: FastifyRequest): Promise<ListWithIds<KeyObject>> => {
      const { project_id: projectId, ...query } = parseRequest(listKeysQuery, request.query);
      const page = await keys.list({ ...query, projectId });
      return listWithIds(page.data.map(toKeyObject), page.hasMore);
    },

    delete: async (request: FastifyRequest): Promise<KeyDeleted> => {
      const { key: id } = request.params as { key: string };
      if (!(await keys.revoke(id, adminElsewhere))) {
        throw new NotFound(`No such key: ${id}`, { param: "id" });
      }
      return { id, object: "tunesmith.key", deleted: true };
    },
  };
}

function toProjectObject({ id, createdAt, name }: Project): ProjectObject {
  return { object: "tunesmith.project", id, created_at: createdAt, name };
}

function toKeyObject(key: ApiKey): KeyObject {
  return {
    object: "tunesmith.key",
    id: key.id,
    created_at: key.createdAt,
    name: key.name,
    project_id: key.projectId,
    prefix: key.prefix,
    scopes: [...key.scopes],
    requests_per_minute: key.requestsPerMinute,
    tokens_per_minute: key.tokensPerMinute,
    last_used_at: key.lastUsedAt,
    revoked_at: key.revokedAt,
  };
}
