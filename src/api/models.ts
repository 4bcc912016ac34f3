// /v1/models: list, retrieve, delete.
import { rm } from "node:fs/promises";
import type { FastifyRequest } from "fastify";
import { Forbidden } from "./error-answers.ts";
import { InvalidRequest, NotFound } from "../errors.ts";
import type { ChatEngine } from "../serving/engine.ts";
import type { Model, ModelStore } from "../store/models.ts";
import type { ModelDeleted, ModelList, ModelObject } from "../wire/models.ts";
import type { ListedModel, ModelDirectory } from "./model-directory.ts";

export function modelRoutes(parts: { models: ModelStore; directory: ModelDirectory; engine: ChatEngine }) {
  const { models, directory, engine } = parts;
  return {
    list: async (request: FastifyRequest): Promise<ModelList> => {
      return { object: "list", data: (await directory.list(request.project)).map(toModelObject) };
    },

    retrieve: async (request: FastifyRequest): Promise<ModelObject> => {
      const id = modelId(request);
      const model = await directory.find(request.project, id);
      if (model === null) throw unknownModel(id);
      return toModelObject(model);
    },

    delete: async (request: FastifyRequest): Promise<ModelDeleted> => {
      const id = modelId(request);
      if (directory.resolveBase(id) !== null || directory.resolveEmbedding(id) !== null) {
        throw new Forbidden(
          `The model '${id}' is a base model. Only fine-tuned models (ft:…) can be deleted.`,
          { param: "model" },
        );
      }
      if ((await directory.leadsTo(request.project, id)) !== id) {
        throw new Forbidden(
          `'${id}' is an alias and no model. Delete it with DELETE /tunesmith/aliases/${id}; the model it leads to stays.`,
          { param: "model" },
        );
      }
      const deleted = await models.delete(request.project, id);
      if (deleted === null) throw unknownModel(id);
      // From here on nobody finds the model; a crash before the folder is gone costs disk space only.
      await engine.forget(id);
      await rm(deleted.adapterDirectory, { recursive: true, force: true });
      return { id, object: "model", deleted: true };
    },
  };
}

function toModelObject(model: ListedModel): ModelObject {
  return {
    id: model.id,
    object: "model",
    created: model.created,
    owned_by: model.ownedBy,
    shutdown_date: null,
    tunesmith: {
      base_model: model.baseModel,
      ...(model.aliasOf === undefined ? {} : { alias_of: model.aliasOf }),
    },
  };
}

/** A fine-tuned model of the request's own project; an alias stands for what it leads to. Throws NotFound, InvalidRequest. */
export async function ownModel(
  request: FastifyRequest,
  { models, directory }: { models: ModelStore; directory: ModelDirectory },
): Promise<Model> {
  const id = await directory.leadsTo(request.project, modelId(request));
  if (directory.resolveBase(id) !== null || directory.resolveEmbedding(id) !== null) {
    throw new InvalidRequest(
      `The model '${id}' is a base model: it was not trained here. Name a fine-tuned model (ft:…) or a checkpoint.`,
      { code: "invalid_value", param: "model" },
    );
  }
  const model = await models.get(request.project, id);
  if (model === null) throw unknownModel(id);
  return model;
}

const modelId = (request: FastifyRequest) => (request.params as { model: string }).model;

export function unknownModel(id: string): NotFound {
  return new NotFound(`The model '${id}' does not exist`, {
    code: "model_not_found",
    param: "model",
  });
}
