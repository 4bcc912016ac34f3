// Projects and API keys: our own addition beside OpenAI's protocol, under /tunesmith. A key's secret is in the answer that
// makes it and nowhere else.
import { z } from "zod";
import { listWithIdsSchema, MAX_PAGE_SIZE, pageQuery } from "./list.ts";
import { addFault, integer, storedText } from "./validation.ts";

/** What a key may be used for. None holds another: an admin key that shall chat too needs both. */
export const SCOPES = ["read", "train", "infer", "admin"] as const;
export type Scope = (typeof SCOPES)[number];

/** What a key may do when nobody says otherwise: everything but administering. */
const DEFAULT_SCOPES: readonly Scope[] = ["read", "train", "infer"];

export const MAX_NAME_LENGTH = 64;
/** Largest limit of a key: enough for any machine, and exact as a number. */
export const MAX_PER_MINUTE = 1_000_000_000;

const name = storedText().min(1).max(MAX_NAME_LENGTH);

const PROJECT_ID = /^proj_[A-Za-z0-9_-]{1,64}$/;
/** A project may take over an id that clients already send, such as the one it had at OpenAI. */
const projectId = z
  .string()
  .meta({ pattern: PROJECT_ID.source })
  .superRefine((value, context) => {
    if (PROJECT_ID.test(value)) return;
    addFault(context, {
      code: "invalid_value",
      message:
        "Invalid '{param}': expected 'proj_' and 1 to 64 letters, digits, hyphens or underscores. Leave it out to get a new one.",
    });
  });

export const createProjectRequest = z
  .strictObject({ name, id: projectId.nullish() })
  .meta({ id: "CreateProjectRequest" });

export const createKeyRequest = z
  .strictObject({
    name: name.nullish(),
    project_id: z.string().min(1).nullish(),
    scopes: z
      .array(z.enum(SCOPES))
      .min(1)
      .transform((scopes) => SCOPES.filter((scope) => scopes.includes(scope)))
      .default([...DEFAULT_SCOPES])
      .meta({ default: DEFAULT_SCOPES }),
    requests_per_minute: integer({ min: 1, max: MAX_PER_MINUTE }).nullish(),
    tokens_per_minute: integer({ min: 1, max: MAX_PER_MINUTE }).nullish(),
  })
  .meta({ id: "CreateKeyRequest" });

const page = pageQuery({ defaultLimit: 20, maxLimit: MAX_PAGE_SIZE });
export const listProjectsQuery = page;
export const listKeysQuery = page.extend({ project_id: z.string().min(1).optional() });

export const projectObject = z
  .object({
    object: z.literal("tunesmith.project"),
    id: z.string(),
    created_at: z.int(),
    name: z.string(),
  })
  .meta({ id: "Project" });
export const projectList = listWithIdsSchema(projectObject).meta({ id: "ProjectList" });
export type ProjectObject = z.infer<typeof projectObject>;

export const keyObject = z
  .object({
    object: z.literal("tunesmith.key"),
    id: z.string(),
    created_at: z.int(),
    name: z.string().nullable(),
    project_id: z.string(),
    /** How the secret begins, to tell keys apart. */
    prefix: z.string(),
    scopes: z.array(z.enum(SCOPES)),
    /** Null: no limit. */
    requests_per_minute: z.int().nullable(),
    tokens_per_minute: z.int().nullable(),
    /** Unix seconds, true to the minute. */
    last_used_at: z.int().nullable(),
    revoked_at: z.int().nullable(),
  })
  .meta({ id: "ApiKey" });
export const keyList = listWithIdsSchema(keyObject).meta({ id: "ApiKeyList" });
export type KeyObject = z.infer<typeof keyObject>;

/** The answer to making a key, with its secret: the only time it is shown. */
export const newKeyObject = keyObject
  .extend({ key: z.string().describe("The secret, shown this once.") })
  .meta({ id: "NewApiKey" });
export type NewKeyObject = z.infer<typeof newKeyObject>;

export const keyDeleted = z
  .object({ id: z.string(), object: z.literal("tunesmith.key"), deleted: z.literal(true) })
  .meta({ id: "ApiKeyDeleted" });
export type KeyDeleted = z.infer<typeof keyDeleted>;
