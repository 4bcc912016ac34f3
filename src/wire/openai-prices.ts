// What OpenAI asked for supervised fine-tuning, to compare a local run with.

/** The last full public table; later pages leave these rows out. */
export const OPENAI_PRICES_FROM = "OpenAI's last full public price table, captured 2025 to 2026";

/** US dollars for a million trained tokens, of the models that could still be tuned in November 2026. */
export const OPENAI_TRAINING_PRICES: Readonly<Record<string, number>> = {
  "gpt-4.1-2025-04-14": 25,
  "gpt-4.1-mini-2025-04-14": 5,
  "gpt-4o-2024-08-06": 25,
  "gpt-4o-mini-2024-07-18": 3,
};
