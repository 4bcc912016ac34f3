// One row as the model sees it, each token marked by whether it carries loss: for a terminal in colours, for a pipe in
// brackets, as a page in HTML.
import type { ShownRowObject } from "../wire/preflight.ts";
import { escaped } from "../wire/html-text.ts";
import { formatCount, type Terminal } from "./terminal.ts";

/** Two shades each, so that neighbouring tokens can be told apart. */
const LOSS_COLOURS = ["\u001b[30;42m", "\u001b[30;102m"];
const OTHER_COLOURS = ["\u001b[90m", "\u001b[37m"];
const RESET = "\u001b[0m";

export function rowText(row: ShownRowObject, terminal: Terminal): string {
  return `${terminal.stdout.isTTY === true ? coloured(row) : bracketed(row)}\n\n${caption(row)}\n`;
}

function coloured({ tokens }: ShownRowObject): string {
  return tokens
    .map(({ text, supervised }, i) => {
      const colour = (supervised ? LOSS_COLOURS : OTHER_COLOURS)[i % 2] as string;
      // Colours end with the line, or the terminal fills the rest of it.
      return visible(text)
        .split("\n")
        .map((part) => (part === "" ? "" : `${colour}${part}${RESET}`))
        .join("\n");
    })
    .join("");
}

/** What carries loss stands in ⟦ ⟧, tokens in it are parted by a thin bar. */
function bracketed({ tokens }: ShownRowObject): string {
  return tokens
    .map(({ text, supervised }, i) => {
      const before = tokens[i - 1]?.supervised ?? false;
      const after = tokens[i + 1]?.supervised ?? false;
      if (!supervised) return visible(text);
      return `${before ? "|" : "⟦"}${visible(text)}${after ? "" : "⟧"}`;
    })
    .join("");
}

function caption(row: ShownRowObject): string {
  const cut =
    row.truncated_tokens === 0
      ? "nothing is cut off"
      : `${formatCount(row.truncated_tokens)} tokens behind them are cut off`;
  return `Line ${row.line}: ${formatCount(row.token_count)} tokens, ${formatCount(row.supervised_tokens)} of them with loss (marked); ${cut}.`;
}

/** A data file may hold what a terminal would obey. */
function visible(text: string): string {
  return text.replaceAll(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, (character) => {
    const code = character.charCodeAt(0);
    return code < 0x20 ? String.fromCharCode(0x2400 + code) : "\u2421";
  });
}

/** A whole page that needs nothing from elsewhere. */
export function rowPage(row: ShownRowObject, path: string): string {
  const spans = row.tokens
    .map(({ text, supervised }) => `<span${supervised ? ' class="loss"' : ""}>${escaped(text)}</span>`)
    .join("");
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>${escaped(path)}, line ${row.line}</title>
<style>
body { font: 15px/1.6 system-ui, sans-serif; margin: 2em auto; max-width: 60em; padding: 0 1em; color: #222; background: #fff; }
pre { font: 14px/1.8 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere; }
span { border-right: 1px solid #ddd; color: #666; }
span.loss { background: #c8f0c8; color: #000; border-color: #7c7; }
</style>
<h1>${escaped(path)}, line ${row.line}</h1>
<p>${escaped(caption(row))} Green tokens carry loss: these the model learns to write. It only reads the grey ones.</p>
<pre>${spans}</pre>
</html>
`;
}
