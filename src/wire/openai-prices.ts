// What OpenAI asked for supervised fine-tuning and for the answers of fine-tuned models, to compare a local run with and to say
// beforehand what asking an old model costs.

/** The last full public table; later pages leave these rows out. */
export const OPENAI_PRICES_FROM = "OpenAI's last full public price table, captured 2025 to 2026";

/** US dollars for a million trained tokens, of the models that could still be tuned in November 2026. */
export const OPENAI_TRAINING_PRICES: Readonly<Record<string, number>> = {
  "gpt-4.1-2025-04-14": 25,
  "gpt-4.1-mini-2025-04-14": 5,
  "gpt-4o-2024-08-06": 25,
  "gpt-4o-mini-2024-07-18": 3,
};

export interface AnswerPrice {
  /** US dollars for a million tokens read, none of them cached. */
  input: number;
  /** US dollars for a million tokens written. */
  output: number;
}

/** Answers of fine-tuned models, by base, of the same table. */
export const OPENAI_ANSWER_PRICES: Readonly<Record<string, AnswerPrice>> = {
  "gpt-4.1-2025-04-14": { input: 3, output: 12 },
  "gpt-4.1-mini-2025-04-14": { input: 0.8, output: 3.2 },
  "gpt-4o-2024-08-06": { input: 3.75, output: 15 },
  "gpt-4o-mini-2024-07-18": { input: 0.3, output: 1.2 },
};
