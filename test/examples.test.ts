import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";

interface Message {
  role: string;
  content: string;
}
type Label = { [K in "category" | "priority" | "product" | "order_id" | "needs_human"]?: unknown };
interface Ticket {
  text: string;
  answer: string;
}

const LABEL_KEYS = ["category", "priority", "product", "order_id", "needs_human"];
const CATEGORIES = ["billing", "shipping", "returns", "technical", "account"];
const PRIORITIES = ["high", "normal", "low"];
const PRODUCTS = ["speaker", "lamp", "kettle", "fan", "watch", "unknown"];

/** The conversations of one example file; throws on a line that is not a chat row. */
function conversations(path: string): Message[][] {
  const text = readFileSync(new URL(`../examples/${path}`, import.meta.url), "utf8");
  if (!text.endsWith("\n")) throw new Error(`${path}: no line end at the end of the file`);
  const lines = text.slice(0, -1).split("\n");
  return lines.map((line, i) => {
    const row = JSON.parse(line) as { messages?: Message[] };
    const messages = row.messages ?? [];
    const roles = messages.map((m) => m.role).join(" ");
    const shape = Object.keys(row).join() === "messages" && /^system( user assistant)+$/.test(roles);
    const filled = messages.every((m) => m.content !== "" && m.content.trim() === m.content);
    if (!shape || !filled) throw new Error(`${path} line ${i + 1}: not a chat row`);
    return messages;
  });
}

function tickets(path: string): Ticket[] {
  return conversations(path).map(([, user, answer]) => ({
    text: user?.content ?? "",
    answer: answer?.content ?? "",
  }));
}

/** What is wrong with the label of a ticket, or undefined. */
function labelFault({ text, answer }: Ticket): string | undefined {
  const label = JSON.parse(answer) as Label;
  if (JSON.stringify(label) !== answer) return "not compact";
  if (Object.keys(label).join() !== LABEL_KEYS.join()) return "keys";
  if (!CATEGORIES.includes(String(label.category))) return "category";
  if (!PRIORITIES.includes(String(label.priority))) return "priority";
  if (!PRODUCTS.includes(String(label.product))) return "product";
  if (typeof label.needs_human !== "boolean") return "needs_human";
  const numbers = text.match(/\d{5,}/g) ?? [];
  if (numbers.length > 1) return "a second number of five digits";
  if (label.order_id !== (numbers[0] ?? null)) return "order_id is not the number in the ticket";
  if (numbers[0] !== undefined && numbers[0].length !== 5) return "order_id has not five digits";
  return undefined;
}

/** The word 3-grams of a text, lower-cased, with every digit as 0. */
function grams(text: string): Set<string> {
  const words =
    text
      .toLowerCase()
      .replace(/\d/g, "0")
      .match(/[\p{L}\p{N}]+(?:'[\p{L}]+)?/gu) ?? [];
  return new Set(words.slice(2).map((word, i) => `${words[i]} ${words[i + 1]} ${word}`));
}

/** The highest Jaccard similarity of a row of `left` and a later or other row of `right`. */
function closest(left: Ticket[], right: Ticket[]): { score: number; pair: string[] } {
  const a = left.map((t) => grams(t.text));
  const b = left === right ? a : right.map((t) => grams(t.text));
  let best = { score: 0, pair: [] as string[] };
  a.forEach((x, i) => {
    b.forEach((y, j) => {
      if (left === right && j <= i) return;
      let shared = 0;
      for (const gram of x) if (y.has(gram)) shared++;
      const score = shared === 0 ? 0 : shared / (x.size + y.size - shared);
      if (score > best.score) best = { score, pair: [left[i]?.text ?? "", right[j]?.text ?? ""] };
    });
  });
  return best;
}

describe("examples/ticket-triage", () => {
  const train = tickets("ticket-triage/train.jsonl");
  const validation = tickets("ticket-triage/validation.jsonl");
  const heldOut = tickets("ticket-triage/held-out.jsonl");
  const all = [...train, ...validation, ...heldOut];

  it("has enough rows in each file, one turn each under one system line", () => {
    expect(train.length).toBeGreaterThanOrEqual(400);
    expect(validation.length).toBeGreaterThanOrEqual(40);
    expect(heldOut.length).toBeGreaterThanOrEqual(100);
    const rows = ["train", "validation", "held-out"].flatMap((n) =>
      conversations(`ticket-triage/${n}.jsonl`),
    );
    expect(rows.every((row) => row.length === 3)).toBe(true);
    expect(new Set(rows.map((row) => row[0]?.content))).toEqual(
      new Set(["Triage the support ticket as JSON."]),
    );
  });

  it("keeps the label rules that code can check", () => {
    const faults = all.map((t) => [labelFault(t), t.text]).filter(([fault]) => fault !== undefined);
    expect(faults).toEqual([]);
  });

  it("uses every value of every field in the held-out rows", () => {
    const labels = heldOut.map((t) => JSON.parse(t.answer) as Label);
    const values = (key: keyof Label): unknown[] => [...new Set(labels.map((l) => l[key]))].sort();
    expect(values("category")).toEqual([...CATEGORIES].sort());
    expect(values("priority")).toEqual([...PRIORITIES].sort());
    expect(values("product")).toEqual([...PRODUCTS].sort());
    expect(values("needs_human")).toEqual([false, true]);
    expect(values("order_id")).toContain(null);
  });

  it("repeats no ticket and no order number, and holds no near copies", () => {
    expect(new Set(all.map((t) => t.text.toLowerCase())).size).toBe(all.length);
    const orders = all.flatMap((t) => t.text.match(/\d{5}/) ?? []);
    expect(new Set(orders).size).toBe(orders.length);
    const across = [closest(train, validation), closest(train, heldOut), closest(validation, heldOut)];
    expect(across.filter((near) => near.score >= 0.5)).toEqual([]);
    expect([closest(train, train)].filter((near) => near.score >= 0.6)).toEqual([]);
  });
});

describe("examples/taco-bot", () => {
  const train = conversations("taco-bot/train.jsonl");
  const heldOut = conversations("taco-bot/held-out.jsonl");

  it("has enough rows, some of several turns, all under one system line", () => {
    expect(train.length).toBeGreaterThanOrEqual(150);
    expect(heldOut.length).toBe(20);
    expect(train.filter((row) => row.length > 3).length).toBeGreaterThanOrEqual(train.length / 4);
    expect(new Set([...train, ...heldOut].map((row) => row[0]?.content)).size).toBe(1);
  });

  it("has no held-out row that is nearly a training row", () => {
    const asked = (rows: Message[][]): Ticket[] =>
      rows.map((row) => ({
        text: row
          .filter(({ role }) => role === "user")
          .map(({ content }) => content)
          .join("\n"),
        answer: "",
      }));
    const { score, pair } = closest(asked(heldOut), asked(train));
    expect(score, pair.join(" | ")).toBeLessThan(0.5);
  });

  it("answers in few words and repeats no conversation", () => {
    const answers = [...train, ...heldOut].flat().filter((m) => m.role === "assistant");
    expect(answers.filter((m) => m.content.split(/\s+/).length > 35)).toEqual([]);
    const asked = [...train, ...heldOut].map((row) =>
      JSON.stringify(row.filter((m) => m.role === "user")).toLowerCase(),
    );
    expect(new Set(asked).size).toBe(asked.length);
  });
});
