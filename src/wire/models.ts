// Models: the object that lists, and the answer to a delete.
import { z } from "zod";

export const modelObject = z
  .object({
    id: z.string(),
    object: z.literal("model"),
    created: z.int(),
    owned_by: z.string(),
    shutdown_date: z.null().describe("Models of this server stay until they are deleted."),
    /** Our addition: the local base model that really answers under this name. */
    tunesmith: z
      .object({
        base_model: z.string(),
        alias_of: z.string().optional().describe("The model that this alias leads to now."),
      })
      .optional(),
  })
  .meta({ id: "Model" });
export type ModelObject = z.infer<typeof modelObject>;

/** This list alone has neither has_more nor ids. */
export const modelList = z
  .object({ object: z.literal("list"), data: z.array(modelObject) })
  .meta({ id: "ModelList" });
export type ModelList = z.infer<typeof modelList>;

export const modelDeleted = z
  .object({ id: z.string(), object: z.literal("model"), deleted: z.literal(true) })
  .meta({ id: "ModelDeleted" });
export type ModelDeleted = z.infer<typeof modelDeleted>;
