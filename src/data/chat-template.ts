// The one chat templating, for training and for chat: a model's Jinja template filled as transformers'
// apply_chat_template fills it. It knows no tokens and no loss.
import { Template } from "@huggingface/jinja";
import { InvalidRequest, messageOf, UnsupportedModel } from "../errors.ts";
import type { ChatMessage, ToolCall, ToolDefinition } from "./chat-message.ts";
import { withoutTools } from "./tool-calls.ts";
import type { ToolCallShape } from "./tool-calls.ts";

export interface RenderOptions {
  tools?: readonly ToolDefinition[] | undefined;
  /** Ends with what comes before an assistant's answer. */
  addGenerationPrompt: boolean;
  /** Applied to every text a message or tool definition brings in, after tool call arguments are parsed. */
  mapText?: ((text: string) => string) | undefined;
}

export interface ChatTemplate {
  /** Throws InvalidRequest (param "messages" or "tools") when the template cannot show this conversation. */
  render(messages: readonly ChatMessage[], options: RenderOptions): string;
  /** How an answer calls a tool; null when it is not a name and a JSON object, or the template does not show it. */
  readonly toolCallShape: ToolCallShape | null;
}

export interface ChatTemplateFiles {
  /** Parsed tokenizer_config.json: chat_template and the special tokens a template may name. */
  tokenizerConfig: Record<string, unknown>;
  /** Text of chat_template.jinja, where newer models keep the template. */
  chatTemplate?: string;
  /** Template variables, as chat_template_kwargs of other servers; `date_string` is the day that Llama's templates name. */
  variables?: Record<string, unknown>;
}

/** OpenAI's chat answers hold no reasoning text, so templates with a switch for it (Qwen3) are asked for none. */
const DEFAULT_VARIABLES = { enable_thinking: false };

/**
 * What a template that asks for the day is told, always: the clock would give training, a resumed training and each day's chat
 * another text. It is the day that Llama 3's templates name without a clock.
 */
const FIXED_DAY = {
  "%Y": "2024",
  "%y": "24",
  "%m": "07",
  "%B": "July",
  "%b": "Jul",
  "%d": "26",
  "%j": "208",
};
const FIXED_TIME = {
  "%A": "Friday",
  "%a": "Fri",
  "%H": "00",
  "%I": "12",
  "%p": "AM",
  "%M": "00",
  "%S": "00",
};
const FIXED_DATE: Readonly<Record<string, string>> = { ...FIXED_DAY, ...FIXED_TIME, "%%": "%" };

/** The library's own `strftime_now` reads the clock and cannot be redefined, so templates call this in its place. */
const FIXED_CLOCK = "strftime_fixed";

/** Stands for transformers' `strftime_now`. Throws for a directive it does not know, which the template's reader then names. */
function strftimeFixed(format: string): string {
  return format.replace(/%-?./g, (directive) => {
    const text = FIXED_DATE[directive.replace("-", "")];
    if (text === undefined)
      throw new Error(`strftime_now knows no ${directive} (in ${JSON.stringify(format)})`);
    return directive.startsWith("%-") ? text.replace(/^0(?=\d)/, "") : text;
  });
}

const SPECIAL_TOKEN_NAMES = [
  "bos_token",
  "eos_token",
  "unk_token",
  "pad_token",
  "sep_token",
  "cls_token",
  "mask_token",
];

/** Throws UnsupportedModel when the model has no chat template or it cannot be parsed. */
export function createChatTemplate(files: ChatTemplateFiles): ChatTemplate {
  const sources = templateSources(files);
  const variants = { plain: parse(sources.plain), tools: parse(sources.tools) };
  const constants = {
    ...DEFAULT_VARIABLES,
    ...specialTokenTexts(files.tokenizerConfig),
    ...files.variables,
  };
  let shape: ToolCallShape | null | undefined;
  const self: ChatTemplate = {
    render(messages, { tools, addGenerationPrompt, mapText }) {
      const hasTools = tools !== undefined && tools.length > 0;
      const { template, traits } = hasTools ? variants.tools : variants.plain;
      const hasCalls = messages.some(({ tool_calls: calls }) => calls !== undefined && calls.length > 0);
      if ((hasTools && !traits.tools) || (hasCalls && !traits.toolCalls)) {
        for (const [index, message] of messages.entries())
          messageContext(message, index, variants.plain.traits);
        return self.render(withoutTools(messages, tools ?? []), { addGenerationPrompt, mapText });
      }
      const mapped = (value: unknown) => (mapText === undefined ? value : mapStrings(value, mapText));
      const fill = (shown: readonly ChatMessage[]) =>
        template.render({
          ...constants,
          // Left out where the template has a day of its own for that case (Llama 3.2).
          ...(traits.ownDay ? {} : { [FIXED_CLOCK]: strftimeFixed }),
          messages: shown.map((message, index) => mapped(messageContext(message, index, traits))),
          tools: hasTools ? mapped(tools) : null,
          documents: null,
          add_generation_prompt: addGenerationPrompt,
        });
      try {
        return fill(messages);
      } catch (error) {
        if (error instanceof InvalidRequest) throw error;
        // Some templates (Qwen3's first) read every content as a text; for a message that only calls tools that is "".
        if (messages.some(({ content }) => content === null)) {
          return self.render(
            messages.map((message) => ({ ...message, content: message.content ?? "" })),
            { tools, addGenerationPrompt, mapText },
          );
        }
        throw new InvalidRequest(
          `This model's chat template cannot show these messages: ${messageOf(error)}`,
          { param: "messages", cause: error },
        );
      }
    },
    get toolCallShape() {
      if (shape === undefined) shape = probeToolCallShape(self);
      return shape;
    },
  };
  return self;
}

/** Shows the template a call and looks at what it writes around the name and the arguments. */
function probeToolCallShape(template: ChatTemplate): ToolCallShape | null {
  // A character no template writes, so that the two renderings part exactly where a call begins.
  const text = "\u{F8FF}";
  const user: ChatMessage = { role: "user", content: "?" };
  const name = "probe_function";
  // Nine letters and digits: some templates take no other ids.
  const call: ToolCall = {
    id: "abcdef123",
    type: "function",
    function: { name, arguments: '{"probe_key":"probe_value"}' },
  };
  const tools: ToolDefinition[] = [
    { type: "function", function: { name: "other", parameters: { type: "object", properties: {} } } },
  ];
  let spoken: string;
  let called: string;
  try {
    const options = { tools, addGenerationPrompt: false };
    spoken = template.render([user, { role: "assistant", content: text }], options);
    called = template.render([user, { role: "assistant", content: null, tool_calls: [call] }], options);
  } catch (error) {
    if (error instanceof InvalidRequest) return null;
    throw error;
  }
  let start = 0;
  while (start < called.length && called[start] === spoken[start]) start += 1;
  const turnEnd = spoken.slice(spoken.indexOf(text) + text.length);
  const body = called.slice(start, called.length - turnEnd.length);
  const [, begin, middle, end] =
    /^([^]*)probe_function([^]*?)\{\s*"probe_key"\s*:\s*"probe_value"\s*\}([^]*)$/.exec(body) ?? [];
  if (begin === undefined || middle === undefined || end === undefined) return null;
  if (begin === "" || middle === "" || !called.endsWith(turnEnd)) return null;
  const tag = begin.slice(0, begin.includes("{") ? begin.indexOf("{") : begin.length).trimEnd();
  return { trigger: tag === "" ? begin : tag, begin, middle, end };
}

interface Traits {
  tools: boolean;
  toolCalls: boolean;
  name: boolean;
  developer: boolean;
  /** Asks whether there is a clock, and so knows what to say without one. */
  ownDay: boolean;
}

function parse(source: string): { template: Template; traits: Traits } {
  try {
    return {
      template: new Template(source.replaceAll(/\bstrftime_now\b/g, FIXED_CLOCK)),
      traits: {
        tools: /\btools\b/.test(source),
        toolCalls: /\btool_calls\b/.test(source),
        name: /\bmessage\s*(\.\s*name\b|\[\s*['"]name['"]\s*\]|\.get\(\s*['"]name['"])/.test(source),
        developer: /['"]developer['"]/.test(source),
        ownDay: /\bstrftime_now\s+is\b/.test(source),
      },
    };
  } catch (error) {
    throw new UnsupportedModel(`The model's chat template cannot be read: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

/** transformers takes a template named "tool_use" for requests with tools where a model has several. */
function templateSources(files: ChatTemplateFiles): { plain: string; tools: string } {
  const found: unknown = files.chatTemplate ?? files.tokenizerConfig["chat_template"];
  if (typeof found === "string" && found !== "") return { plain: found, tools: found };
  if (Array.isArray(found)) {
    const named = new Map(
      found
        .filter((entry: unknown): entry is { name: string; template: string } => {
          const { name, template } = (entry ?? {}) as { name?: unknown; template?: unknown };
          return typeof name === "string" && typeof template === "string";
        })
        .map(({ name, template }) => [name, template]),
    );
    const plain = named.get("default");
    if (plain !== undefined) return { plain, tools: named.get("tool_use") ?? plain };
    throw new UnsupportedModel(
      `The model has chat templates named ${JSON.stringify([...named.keys()])}, but none named "default".`,
    );
  }
  throw new UnsupportedModel(
    "The model has no chat template (chat_template of tokenizer_config.json, or chat_template.jinja). Use an instruct or chat variant of the model.",
  );
}

function specialTokenTexts(config: Record<string, unknown>): Record<string, string> {
  const texts: Record<string, string> = {};
  for (const name of SPECIAL_TOKEN_NAMES) {
    const value = config[name];
    const text =
      typeof value === "object" && value !== null ? (value as { content?: unknown }).content : value;
    if (typeof text === "string") texts[name] = text;
  }
  return texts;
}

/**
 * One message as transformers' callers write it: tool call arguments as objects; `weight` never; `name` only where the
 * template reads it; "developer" as "system" unless the template knows that role.
 */
function messageContext(message: ChatMessage, index: number, traits: Traits): Record<string, unknown> {
  const { role, content, name, tool_calls: toolCalls, tool_call_id: toolCallId } = message;
  return {
    role: role === "developer" && !traits.developer ? "system" : role,
    content,
    ...(name !== undefined && traits.name ? { name } : {}),
    ...(toolCalls !== undefined && toolCalls.length > 0
      ? { tool_calls: toolCalls.map((call, callIndex) => toolCallContext(call, index, callIndex)) }
      : {}),
    ...(toolCallId === undefined ? {} : { tool_call_id: toolCallId }),
  };
}

function toolCallContext(call: ToolCall, index: number, callIndex: number): Record<string, unknown> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(call.function.arguments);
  } catch {
    parsed = undefined;
  }
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) {
    throw new InvalidRequest(
      `Message ${index + 1}: the arguments of ${JSON.stringify(call.function.name)} must be the JSON text of an object, found ${JSON.stringify(call.function.arguments.slice(0, 80))}.`,
      { param: `messages[${index}].tool_calls[${callIndex}].function.arguments` },
    );
  }
  return { id: call.id, type: call.type, function: { name: call.function.name, arguments: parsed } };
}

function mapStrings(value: unknown, map: (text: string) => string): unknown {
  if (typeof value === "string") return map(value);
  if (Array.isArray(value)) return value.map((item) => mapStrings(item, map));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [map(key), mapStrings(item, map)]));
}
