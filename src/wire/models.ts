// Models: the object that lists, and the answer to a delete.
import { z } from "zod";

export const modelObject = z.object({
  id: z.string(),
  object: z.literal("model"),
  created: z.int(),
  owned_by: z.string(),
  /** Our addition: the local base model that really answers under this name. */
  tunesmith: z.object({ base_model: z.string() }).optional(),
});
export type ModelObject = z.infer<typeof modelObject>;

/** This list alone has neither has_more nor ids. */
export interface ModelList {
  object: "list";
  data: ModelObject[];
}

export interface ModelDeleted {
  id: string;
  object: "model";
  deleted: true;
}
