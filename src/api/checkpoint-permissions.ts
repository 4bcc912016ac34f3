// /v1/fine_tuning/checkpoints/{model}/permissions, for admin keys: an administrator lends any project's model to other projects.
import type { FastifyRequest } from "fastify";
import { InvalidRequest, NotFound } from "../errors.ts";
import type { CheckpointPermission, CheckpointPermissionStore } from "../store/checkpoint-permissions.ts";
import type { ModelStore } from "../store/models.ts";
import type { ProjectStore } from "../store/projects.ts";
import { createPermissionsRequest, listPermissionsQuery } from "../wire/fine-tuning.ts";
import type {
  CheckpointPermissionDeleted,
  CheckpointPermission as PermissionObject,
} from "../wire/fine-tuning.ts";
import { listWithIds } from "../wire/list.ts";
import type { ListWithIds } from "../wire/list.ts";
import { parseRequest } from "../wire/validation.ts";
import { unknownModel } from "./models.ts";

export function checkpointPermissionRoutes(parts: {
  models: ModelStore;
  projects: ProjectStore;
  permissions: CheckpointPermissionStore;
}) {
  const { models, projects, permissions } = parts;

  async function existingModel(request: FastifyRequest): Promise<string> {
    const { checkpoint: id } = request.params as { checkpoint: string };
    if (!(await models.exists(id))) throw unknownModel(id);
    return id;
  }

  return {
    create: async (request: FastifyRequest): Promise<ListWithIds<PermissionObject>> => {
      const { project_ids: projectIds } = parseRequest(createPermissionsRequest, request.body);
      const model = await existingModel(request);
      for (const [index, id] of projectIds.entries()) {
        if (await projects.exists(id)) continue;
        throw new InvalidRequest(
          `No project has the id '${id.slice(0, 80)}'. GET /tunesmith/projects lists those there are.`,
          { param: `project_ids[${index}]` },
        );
      }
      const created = await permissions.create(model, projectIds);
      return listWithIds(created.map(toPermissionObject), false);
    },

    list: async (request: FastifyRequest): Promise<ListWithIds<PermissionObject>> => {
      const query = parseRequest(listPermissionsQuery, request.query);
      const { data, hasMore } = await permissions.list(await existingModel(request), {
        limit: query.limit,
        after: query.after,
        order: query.order === "ascending" ? "asc" : "desc",
        projectId: query.project_id,
      });
      return listWithIds(data.map(toPermissionObject), hasMore);
    },

    delete: async (request: FastifyRequest): Promise<CheckpointPermissionDeleted> => {
      const { permission: id } = request.params as { permission: string };
      const model = await existingModel(request);
      if (!(await permissions.delete(model, id))) {
        throw new NotFound(`No such checkpoint permission: ${id}`, { param: "permission_id" });
      }
      return { id, object: "checkpoint.permission", deleted: true };
    },
  };
}

function toPermissionObject(permission: CheckpointPermission): PermissionObject {
  return {
    object: "checkpoint.permission",
    id: permission.id,
    created_at: permission.createdAt,
    project_id: permission.projectId,
  };
}
