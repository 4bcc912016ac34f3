// The error envelope every failing answer carries. Which error gets which status is decided in api/app.ts.
import { z } from "zod";

/** All four members are always present: clients read `error.code` without looking first. */
export const errorEnvelope = z
  .object({
    error: z.object({
      message: z.string().describe("What was expected, what was found, what to do."),
      type: z.string(),
      param: z.string().nullable().describe("The parameter at fault."),
      code: z.string().nullable().describe("The reason, for programs."),
    }),
  })
  .meta({ id: "ErrorEnvelope" });
export type ErrorEnvelope = z.infer<typeof errorEnvelope>;

export const ERROR_TYPES = [
  "invalid_request_error",
  "server_error",
  "service_unavailable_error",
  /** Of embeddings with too many tokens: type and code are the same there. */
  "max_tokens_per_request",
  "requests",
  "tokens",
] as const;
export type ErrorType = (typeof ERROR_TYPES)[number];
