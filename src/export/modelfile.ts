// The Modelfile that Ollama makes a model from. Its templates are Go's, so the model's chat template is tried out, put together anew
// from what it writes around each role's text, and compared: a template that does more than that is refused, since a model that is
// shown other turns than it was trained on talks nonsense.
import type { ChatMessage } from "../data/chat-message.ts";
import type { ChatTemplate } from "../data/chat-template.ts";
import { InvalidRequest, UnsupportedModel } from "../errors.ts";

/** What a template writes around the texts of a conversation. */
interface TurnTexts {
  /** In front of a conversation that begins with no system message. */
  opening: string;
  /** In front of one that does. */
  systemOpening: string;
  system: { before: string; after: string };
  user: { before: string; after: string };
  assistant: { before: string; after: string };
  /** In front of the answer. */
  answer: string;
}

/** The Modelfile's text. `addsBos`: Ollama writes the token itself. Throws UnsupportedModel for a template that it cannot express. */
export function modelfile(
  template: ChatTemplate,
  options: { weights: string; stops: readonly string[]; addsBos: string | null },
): string {
  const turns = turnTexts(template);
  if (turns === null || Object.values(turns).some((text) => /\{\{|"""/.test(JSON.stringify(text))))
    throw new UnsupportedModel(
      "This model's chat template cannot be written for Ollama: it does more than put a text before and after each message. Take the format gguf, whose file holds the template itself.",
      { code: "unsupported_model", param: "format" },
    );
  const withoutBos = (text: string) =>
    options.addsBos !== null && text.startsWith(options.addsBos) ? text.slice(options.addsBos.length) : text;
  const { system, user, assistant, answer } = turns;
  const go = [
    `{{ if and .Messages (eq (index .Messages 0).Role "system") }}${withoutBos(turns.systemOpening)}{{ else }}${withoutBos(turns.opening)}{{ end }}`,
    "{{ range .Messages }}",
    `{{ if eq .Role "system" }}${system.before}{{ .Content }}${system.after}`,
    `{{ else if eq .Role "user" }}${user.before}{{ .Content }}${user.after}`,
    `{{ else if eq .Role "assistant" }}${assistant.before}{{ .Content }}${assistant.after}`,
    `{{ end }}{{ end }}${answer}`,
  ].join("");
  const stops = options.stops.map((stop) => `PARAMETER stop ${JSON.stringify(stop)}\n`);
  return `FROM ./${options.weights}\nTEMPLATE """${go}"""\n${stops.join("")}`;
}

const message = (role: ChatMessage["role"], content: string): ChatMessage => ({ role, content });

/** Null where the template does not write the same around a role's text wherever it stands. */
function turnTexts(template: ChatTemplate): TurnTexts | null {
  const render = (messages: ChatMessage[], addGenerationPrompt = false) =>
    template.render(messages, { addGenerationPrompt });
  const [s, u, a, v] = ["\u{F8F0}", "\u{F8F1}", "\u{F8F2}", "\u{F8F3}"] as const;
  try {
    const single = render([message("user", u)]);
    const long = render([message("user", u), message("assistant", a), message("user", v)]);
    const closed = render([message("user", u), message("assistant", a)]);
    const withSystem = render([message("system", s), message("user", u)]);
    const prompt = render([message("user", u)], true);
    const between = (text: string, from: string, to: string) => {
      const start = text.indexOf(from);
      return text.slice(start + from.length, text.indexOf(to, start));
    };
    const userAfter = single.slice(single.indexOf(u) + u.length);
    const assistantAfter = closed.slice(closed.indexOf(a) + a.length);
    const middle = between(long, u, a);
    const last = between(long, a, v);
    if (!middle.startsWith(userAfter) || !last.startsWith(assistantAfter) || !prompt.startsWith(single))
      return null;
    const userBefore = last.slice(assistantAfter.length);
    const first = single.slice(0, single.indexOf(u));
    const gap = between(withSystem, s, u);
    if (!first.endsWith(userBefore) || !gap.endsWith(userBefore)) return null;
    const turns: TurnTexts = {
      opening: first.slice(0, first.length - userBefore.length),
      systemOpening: "",
      system: {
        before: withSystem.slice(0, withSystem.indexOf(s)),
        after: gap.slice(0, gap.length - userBefore.length),
      },
      user: { before: userBefore, after: userAfter },
      assistant: { before: middle.slice(userAfter.length), after: assistantAfter },
      answer: prompt.slice(single.length),
    };
    return TRIALS.every((roles) => {
      const messages = roles.map((role, i) => message(role, `Text number ${i}.`));
      return render(messages, true) === composed(turns, messages);
    })
      ? turns
      : null;
  } catch (error) {
    if (error instanceof InvalidRequest) return null;
    throw error;
  }
}

/** Conversations that the parts must give exactly. */
const TRIALS: readonly ("system" | "user" | "assistant")[][] = [
  ["user"],
  ["system", "user"],
  ["user", "assistant", "user"],
  ["system", "user", "assistant", "user", "assistant", "user"],
];

/** What the Go template writes. */
function composed(turns: TurnTexts, messages: readonly ChatMessage[]): string {
  const opening = messages[0]?.role === "system" ? turns.systemOpening : turns.opening;
  const texts = messages.map(({ role, content }) => {
    const { before, after } = turns[role as "system" | "user" | "assistant"];
    return before + content + after;
  });
  return opening + texts.join("") + turns.answer;
}
