// Ends an answer before any of its stop texts, also where one is spread over several tokens: text that may be the beginning
// of a stop text is held back until the next piece decides.

export interface StopTexts {
  /** The part of the text so far that is safe to send; `stopped` once a stop text was met, and then nothing more comes. */
  push(text: string): { text: string; stopped: boolean };
  /** What was held back when the answer ended otherwise. */
  flush(): string;
}

export function createStopTexts(stops: readonly string[]): StopTexts {
  let held = "";
  return {
    push(text) {
      held += text;
      const found = stops.map((stop) => held.indexOf(stop)).filter((at) => at >= 0);
      if (found.length > 0) {
        const safe = held.slice(0, Math.min(...found));
        held = "";
        return { text: safe, stopped: true };
      }
      const keep = Math.max(0, ...stops.map((stop) => overlap(held, stop)));
      const safe = held.slice(0, held.length - keep);
      held = held.slice(held.length - keep);
      return { text: safe, stopped: false };
    },
    flush() {
      const rest = held;
      held = "";
      return rest;
    },
  };
}

/** Length of the longest end of `text` that begins `stop`. */
function overlap(text: string, stop: string): number {
  for (let length = Math.min(text.length, stop.length - 1); length > 0; length--) {
    if (stop.startsWith(text.slice(text.length - length))) return length;
  }
  return 0;
}
