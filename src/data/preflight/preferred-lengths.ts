// Preference pairs whose preferred answer is nearly always the longer, or the shorter, of the two: length is the easiest thing to
// tell them apart by, so it is what the model learns (arXiv:2310.03716).
import type { ChatMessage } from "../chat-message.ts";
import type { DatasetParam } from "../dataset.ts";
import type { CheckedLine } from "./checked-line.ts";
import type { Finding } from "./report.ts";

/** Share of the pairs on one side from which their length says which is preferred. */
const TELLING_SHARE = 0.8;
/** Fewer pairs than this lie on one side by chance. */
const MIN_PAIRS = 20;

export class PreferredLengths {
  readonly #file: DatasetParam;
  #pairs = 0;
  #longer = 0;
  #shorter = 0;

  constructor(file: DatasetParam) {
    this.#file = file;
  }

  /** Passes over lines with a single answer. */
  add([wanted, other]: CheckedLine["examples"]): void {
    if (other === undefined) return;
    const [preferred, rejected] = [wanted, other].map(({ messages }) => {
      const { content, tool_calls } = messages.at(-1) as ChatMessage;
      return (content ?? "").length + JSON.stringify(tool_calls ?? []).length;
    }) as [number, number];
    this.#pairs += 1;
    if (preferred > rejected) this.#longer += 1;
    if (preferred < rejected) this.#shorter += 1;
  }

  findings(): Finding[] {
    const [count, which] =
      this.#longer >= this.#shorter ? [this.#longer, "longer"] : [this.#shorter, "shorter"];
    if (this.#pairs < MIN_PAIRS || count < TELLING_SHARE * this.#pairs) return [];
    return [
      {
        kind: "preferred_by_length",
        severity: "warning",
        file: this.#file,
        message: `In ${count.toLocaleString("en-US")} of ${this.#pairs.toLocaleString("en-US")} pairs the preferred answer is the ${which} one: the model may learn to answer ${which === "longer" ? "at length" : "briefly"}, and little else`,
        fix: `Add pairs whose preferred answer is not the ${which} one.`,
        count,
        places: [],
      },
    ];
  }
}
