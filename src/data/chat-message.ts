// One chat message as templating and training see it: text parts already joined, OpenAI's member names kept because chat
// templates read them (tool_calls, tool_call_id).

export const ROLES = ["system", "developer", "user", "assistant", "tool"] as const;
export type Role = (typeof ROLES)[number];

export interface ToolCall {
  id: string;
  type: "function";
  function: { name: string; /** A JSON text. */ arguments: string };
}

export interface ToolDefinition {
  type: "function";
  function: {
    name: string;
    description?: string;
    parameters?: Record<string, unknown>;
    strict?: boolean | null;
  };
}

export interface ChatMessage {
  role: Role;
  /** Null only for an assistant message that calls tools. */
  content: string | null;
  name?: string;
  tool_calls?: ToolCall[];
  tool_call_id?: string;
  /** Assistant only: 0 keeps the message in the prompt but out of the loss. */
  weight?: 0 | 1;
}
