// What a command of the migration gets: the tunesmith server, and the way to OpenAI.
import type { OpenAiAccess } from "../migrate/openai-client.ts";
import type { CommandContext } from "./terminal.ts";

export interface MigrationContext extends CommandContext {
  openAi: OpenAiAccess;
}
