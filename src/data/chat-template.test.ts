// What a template sees and what it refuses. That the rendering equals transformers' byte for byte is shown on the real
// SmolLM2 in smollm2.test.ts.
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { InvalidRequest, UnsupportedModel } from "../errors.ts";
import type { ChatMessage, ToolDefinition } from "./chat-message.ts";
import { createChatTemplate } from "./chat-template.ts";

const user: ChatMessage = { role: "user", content: "hi", name: "ada", weight: 1 };
const tool: ToolDefinition = { type: "function", function: { name: "f", parameters: { type: "object" } } };
const call: ChatMessage = {
  role: "assistant",
  content: null,
  tool_calls: [
    { id: "c1", type: "function", function: { name: "f", arguments: '{"b": "é", "a": [1, 2.5]}' } },
  ],
};
const template = (chat_template: unknown, variables?: Record<string, unknown>) =>
  createChatTemplate({
    tokenizerConfig: { chat_template, bos_token: { content: "<s>" } },
    ...(variables && { variables }),
  });
const render = (source: string, messages: ChatMessage[], tools?: ToolDefinition[]) =>
  template(source).render(messages, { tools, addGenerationPrompt: false });

describe("what a template sees", () => {
  it("roles and contents, bos_token from a token object, no tools as none", () => {
    expect(
      render(
        "{{ bos_token }}{% if tools is none %}-{% endif %}{{ messages[0].role ~ messages[0].content }}",
        [user],
      ),
    ).toBe("<s>-userhi");
  });

  it("never weight, and name only where it is read", () => {
    expect(render("{% for message in messages %}{{ message | tojson }}{% endfor %}", [user])).toBe(
      '{"role": "user", "content": "hi"}',
    );
    expect(
      render("{% for message in messages %}{{ message.name }}:{{ message | tojson }}{% endfor %}", [user]),
    ).toBe('ada:{"role": "user", "content": "hi", "name": "ada"}');
  });

  it("a developer message as a system message, unless the template knows the role", () => {
    const developer: ChatMessage = { role: "developer", content: "x" };
    expect(render("{{ messages[0].role }}", [developer])).toBe("system");
    expect(
      render("{{ messages[0].role }}{% if messages[0].role == 'developer' %}!{% endif %}", [developer]),
    ).toBe("developer!");
  });

  it("tool call arguments as objects, null content as none, tool definitions whole", () => {
    const source =
      "{% for message in messages %}{{ message.content is none }} {{ message.tool_calls[0].function.arguments | tojson }}{% endfor %} {{ tools | tojson }}";
    expect(render(source, [call], [tool])).toBe(
      'True {"b": "é", "a": [1, 2.5]} [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]'.replace(
        "True",
        "true",
      ),
    );
  });

  it("the content of a message that only calls tools as an empty text, where the template fails on none", () => {
    const source =
      "{% for message in messages %}{{ message.content.strip() + message.tool_calls[0].id }}{% endfor %}";
    expect(render(source, [call])).toBe("c1");
  });

  it("add_generation_prompt, no thinking by default, and variables of the caller", () => {
    const source = "{% if add_generation_prompt %}go{% endif %} {{ enable_thinking }} {{ date_string }}";
    const options = { addGenerationPrompt: true };
    expect(template(source, { date_string: "today" }).render([user], options)).toBe("go false today");
    expect(template(source, { enable_thinking: true }).render([user], options)).toBe("go true ");
  });

  describe("the day, which is the same on every day", () => {
    const say = (source: string, variables?: Record<string, unknown>) =>
      template(source, variables).render([user], { addGenerationPrompt: true });
    const clockOrOwn =
      "{% if date_string is not defined %}{% if strftime_now is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% else %}{% set date_string = '3 Mar 2023' %}{% endif %}{% endif %}Today: {{ date_string }}";

    beforeEach(() => {
      vi.useFakeTimers({ now: new Date("2031-05-06T07:08:09") });
    });
    afterEach(() => {
      vi.useRealTimers();
    });

    it("is the template's own where it has one, or the caller's", () => {
      expect(say(clockOrOwn)).toBe("Today: 3 Mar 2023");
      expect(say(clockOrOwn, { date_string: "4 Apr 2024" })).toBe("Today: 4 Apr 2024");
    });

    it("is a fixed one where the template relies on a clock", () => {
      expect(say("{{ strftime_now('%d %B %Y') }}")).toBe("26 July 2024");
      expect(say("{{ strftime_now('%A %a %b %-d %-m %y, %H:%M:%S %I %p %j 100%%') }}")).toBe(
        "Friday Fri Jul 26 7 24, 00:00:00 12 AM 208 100%",
      );
    });

    it("is refused in a format that nobody has fixed", () => {
      expect(() => say("{{ strftime_now('%d %Q') }}")).toThrow(
        /^This model's chat template cannot show these messages: .*strftime_now knows no %Q \(in "%d %Q"\)/,
      );
    });

    it("makes the prompt the beginning of the training text, whatever the clock says in between", () => {
      const source =
        "{{ strftime_now('%d %b %Y') }}\n{% for message in messages %}<{{ message.role }}>{{ message.content }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";
      const training = template(source).render([user, { role: "assistant", content: "ho" }], {
        addGenerationPrompt: false,
      });
      vi.setSystemTime(new Date("2032-01-01T00:00:00"));
      const prompt = template(source).render([user], { addGenerationPrompt: true });
      expect(training).toBe("26 Jul 2024\n<user>hi<assistant>ho");
      expect(training.startsWith(prompt)).toBe(true);
    });
  });

  it("texts through mapText, also inside parsed arguments and tool definitions", () => {
    const source =
      "{{ messages[0].content }} {{ messages[1].tool_calls[0].function.arguments.b }} {{ tools[0].function.name }}";
    const escaped: ChatMessage = {
      ...call,
      tool_calls: [
        { id: "c", type: "function", function: { name: "f", arguments: '{"b": "\\u003cx\\u003e"}' } },
      ],
    };
    const odd: ToolDefinition = { type: "function", function: { name: "<x>y" } };
    const mapText = (text: string) => text.replace("<x>", "?").replace("hi", "ho");
    expect(
      template(source).render([user, escaped], { tools: [odd], addGenerationPrompt: false, mapText }),
    ).toBe("ho ? ?y");
  });
});

describe("which template is taken", () => {
  const named = [
    { name: "default", template: "plain" },
    { name: "tool_use", template: "tools" },
  ];
  it("tool_use for tools, default otherwise; chat_template.jinja before tokenizer_config.json", () => {
    expect(template(named).render([user], { addGenerationPrompt: false })).toBe("plain");
    expect(template(named).render([user], { tools: [tool], addGenerationPrompt: false })).toBe("tools");
    const both = createChatTemplate({ tokenizerConfig: { chat_template: "old" }, chatTemplate: "new" });
    expect(both.render([user], { addGenerationPrompt: false })).toBe("new");
  });

  it.each([
    [
      undefined,
      "The model has no chat template (chat_template of tokenizer_config.json, or chat_template.jinja).",
    ],
    [null, "The model has no chat template"],
    [
      [{ name: "rag", template: "x" }],
      'The model has chat templates named ["rag"], but none named "default".',
    ],
    ["{% if %}", "The model's chat template cannot be read: "],
  ])("%j is refused", (source, message) => {
    expect(() => template(source)).toThrow(UnsupportedModel);
    expect(() => template(source)).toThrow(message);
  });
});

describe("what a template cannot show", () => {
  const fault = (run: () => unknown) => {
    try {
      run();
    } catch (error) {
      if (error instanceof InvalidRequest) return { param: error.param, message: error.message };
      throw error;
    }
    return undefined;
  };

  it("says what the template says", () => {
    expect(fault(() => render("{{ raise_exception('Roles must alternate') }}", [user]))).toEqual({
      param: "messages",
      message: "This model's chat template cannot show these messages: Roles must alternate",
    });
  });

  it.each(["not json", "[1]", "3"])("refuses arguments that are no object: %s", (text) => {
    const bad: ChatMessage = {
      role: "assistant",
      content: null,
      tool_calls: [{ id: "c", type: "function", function: { name: "f", arguments: text } }],
    };
    expect(fault(() => render("{{ message.tool_calls }}", [bad]))).toEqual({
      param: "messages[0].tool_calls[0].function.arguments",
      message: `Message 1: the arguments of "f" must be the JSON text of an object, found ${JSON.stringify(text)}.`,
    });
  });
});

describe("a template without tools", () => {
  const plain = "{% for m in messages %}[{{ m.role }}]{{ m.content }}\n{% endfor %}";
  const calls = (content: string | null): ChatMessage => ({ ...call, content });

  it("is given definitions, calls and results as texts", () => {
    const messages: ChatMessage[] = [
      { role: "system", content: "Be brief." },
      user,
      calls("One moment."),
      { role: "tool", content: "12 degrees", tool_call_id: "c" },
    ];
    const shown = render(plain, messages, [tool]);
    expect(shown).toContain("[system]Be brief.\n\nThese functions can be called:\n<tools>\n");
    expect(shown).toContain(JSON.stringify(tool));
    const [{ function: called } = { function: { name: "", arguments: "" } }] = call.tool_calls ?? [];
    expect(shown).toContain(
      `[assistant]One moment.\n<tool_call>\n{"name": "${called.name}", "arguments": ${called.arguments}}\n</tool_call>\n`,
    );
    expect(shown).toContain("[user]<tool_response>\n12 degrees\n</tool_response>\n");
  });

  it("gets a system message of its own where there is none, and earlier calls also without tools", () => {
    expect(render(plain, [user], [tool])).toMatch(/^\[system\]These functions can be called:/);
    expect(render(plain, [user, calls(null)])).toContain("[assistant]<tool_call>\n");
  });

  it("shows how an answer calls", () => {
    expect(template(plain).toolCallShape).toEqual({
      trigger: "<tool_call>",
      begin: '<tool_call>\n{"name": "',
      middle: '", "arguments": ',
      end: "}\n</tool_call>",
    });
  });
});

describe("toolCallShape", () => {
  it("is read from the template: tags, bare JSON, and none where arguments are no JSON", () => {
    const turn = (callText: string) =>
      `{% for m in messages %}<{{ m.role }}>{% if m.tool_calls %}{% for c in m.tool_calls %}${callText}{% endfor %}{% else %}{{ m.content }}{% endif %}<end>{% endfor %}{% if tools %}{% endif %}`;
    expect(
      template(turn('<call>{"f": "{{ c.function.name }}", "a": {{ c.function.arguments | tojson }}}</call>'))
        .toolCallShape,
    ).toEqual({ trigger: "<call>", begin: '<call>{"f": "', middle: '", "a": ', end: "}</call>" });
    expect(
      template(turn('{"name": "{{ c.function.name }}", "parameters": {{ c.function.arguments | tojson }}}'))
        .toolCallShape,
    ).toEqual({ trigger: '{"name": "', begin: '{"name": "', middle: '", "parameters": ', end: "}" });
    expect(
      template(
        turn(
          "<f={{ c.function.name }}>{% for k, v in c.function.arguments.items() %}{{ k }}:{{ v }}{% endfor %}",
        ),
      ).toolCallShape,
    ).toBe(null);
  });
});
