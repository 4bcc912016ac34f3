// Which faults belong to one object or one list, so that the others go on without it, and which end the command.
import { DatasetError, NotFound, Unavailable } from "../errors.ts";
import { OpenAiError } from "./openai-client.ts";

/** A wrong key or an ended account is the same for everything; nobody answering is, too, but may pass before the next object. */
export function isPassingFault(error: unknown): boolean {
  if (error instanceof OpenAiError) return error.status !== 401 && error.type !== "insufficient_quota";
  return error instanceof Unavailable || error instanceof NotFound || error instanceof DatasetError;
}
