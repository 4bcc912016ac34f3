// Aliases: names of the user's own that lead to a model version, and may be moved to another. All of it is our addition.
import { z } from "zod";
import { listSchema, listWithIdsSchema, MAX_PAGE_SIZE, pageQuery } from "./list.ts";
import { storedText } from "./validation.ts";

/** What an alias may be called: whatever a model's name may be, OpenAI's fine-tuned names included, without a slash. */
const ALIAS_NAME = /^[A-Za-z0-9][A-Za-z0-9._:-]{0,199}$/;

export const isAliasName = (text: string): boolean => ALIAS_NAME.test(text);

/** Characters of a reason: a sentence, and a link to what it rests on. */
const MAX_REASON_LENGTH = 500;

export const CANDIDATE_MODES = ["canary", "shadow"] as const;
export type CandidateMode = (typeof CANDIDATE_MODES)[number];

const reason = storedText()
  .min(1)
  .max(MAX_REASON_LENGTH)
  .nullish()
  .describe("Why; kept in the alias's moves.");
const modelName = storedText().min(1).max(256);

export const setAliasRequest = z
  .strictObject({
    model: modelName.describe("A base model, a fine-tuned model or a checkpoint; not another alias."),
    reason,
  })
  .meta({ id: "SetAliasRequest" });

export const rollBackAliasRequest = z.strictObject({ reason }).meta({ id: "RollBackAliasRequest" });

export const setCandidateRequest = z
  .strictObject({
    model: modelName,
    mode: z
      .enum(CANDIDATE_MODES)
      .describe(
        "canary: it answers its share of the requests. shadow: it answers copies of them, which nobody gets but the comparisons.",
      ),
    percent: z
      .number()
      .gt(0)
      .max(100)
      .describe(
        "Share of the requests: those of the same `user` all or none, those without one each by itself.",
      ),
    reason,
  })
  .meta({ id: "SetAliasCandidateRequest" });

const candidate = z.object({
  model: z.string(),
  mode: z.enum(CANDIDATE_MODES),
  percent: z.number(),
  created_at: z.int(),
  compared: z.int().describe("Answers that were compared with the alias's own; of a shadow only."),
  equal: z.int().describe("How many of them were the same."),
  mean_similarity: z.number().nullable().describe("Of all compared, 0 to 1; null before the first."),
});

export const aliasObject = z
  .object({
    id: z.string(),
    object: z.literal("tunesmith.alias"),
    created_at: z.int(),
    moved_at: z.int(),
    model: z.string(),
    previous_model: z.string().nullable().describe("Where a rollback leads; null: nowhere."),
    candidate: candidate.nullable(),
  })
  .meta({ id: "Alias" });
export type AliasObject = z.infer<typeof aliasObject>;

export const aliasList = listSchema(aliasObject).meta({ id: "AliasList" });

export const aliasDeleted = z
  .object({ id: z.string(), object: z.literal("tunesmith.alias.deleted"), deleted: z.literal(true) })
  .meta({ id: "AliasDeleted" });
export type AliasDeleted = z.infer<typeof aliasDeleted>;

export const ALIAS_ACTIONS = [
  "created",
  "moved",
  "rolled_back",
  "candidate_set",
  "candidate_removed",
  "deleted",
] as const;
export type AliasAction = (typeof ALIAS_ACTIONS)[number];

/** One entry of an alias's log. */
export const aliasMoveObject = z
  .object({
    id: z.string(),
    object: z.literal("tunesmith.alias.move"),
    created_at: z.int(),
    action: z.enum(ALIAS_ACTIONS),
    from_model: z.string().nullable(),
    to_model: z.string().nullable(),
    mode: z.enum(CANDIDATE_MODES).nullable(),
    percent: z.number().nullable(),
    by: z.string().describe("The id of the key; owner: whoever holds a key of the settings, or the machine."),
    reason: z.string().nullable(),
  })
  .meta({ id: "AliasMove" });
export type AliasMoveObject = z.infer<typeof aliasMoveObject>;

export const aliasMoveList = listWithIdsSchema(aliasMoveObject).meta({ id: "AliasMoveList" });

/** What a shadow answered beside the alias's own answer. */
export const comparisonObject = z
  .object({
    id: z.string(),
    object: z.literal("tunesmith.alias.comparison"),
    created_at: z.int(),
    request_id: z.string(),
    model: z.string(),
    candidate: z.string(),
    equal: z.boolean(),
    similarity: z.number().describe("Of the two answers, 0 to 1, by fuzzy matching."),
    question: z.string().describe("The last message, cut."),
    answer: z.string().describe("Of the alias, cut; tool calls as JSON."),
    candidate_answer: z.string(),
    completion_tokens: z.int(),
    candidate_completion_tokens: z.int(),
  })
  .meta({ id: "AliasComparison" });
export type ComparisonObject = z.infer<typeof comparisonObject>;

export const comparisonList = listWithIdsSchema(comparisonObject).meta({ id: "AliasComparisonList" });

/** Of moves and comparisons, newest first. */
export const listAliasesQuery = pageQuery({ defaultLimit: 20, maxLimit: MAX_PAGE_SIZE });
