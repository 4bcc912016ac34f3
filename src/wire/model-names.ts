// Names of fine-tuned models and their checkpoints: ft:<base>:<organization>:<suffix>:<8 characters>[:ckpt-step-<n>].
import { newId } from "./ids.ts";

export interface FineTunedModelName {
  /** The base model's name as the job echoes it: the resolved snapshot, not the alias that was asked for. */
  base: string;
  organization: string;
  /** Empty when the job has no suffix: the name then holds a double colon. */
  suffix: string;
  /** 8 alphanumerics. */
  unique: string;
  /** Null for the final model. */
  checkpointStep: number | null;
}

const NAME = /^ft:([^:]+):([^:]+):([^:]*):([A-Za-z0-9]{8})(?::ckpt-step-([1-9][0-9]*))?$/;

/** A fresh name: two calls give two names, so a final model and its checkpoints each have their own 8 characters. */
export function newModelName(parts: {
  base: string;
  organization: string;
  suffix: string | null;
  checkpointStep?: number;
}): string {
  return formatModelName({
    base: parts.base,
    organization: parts.organization,
    suffix: suffixInName(parts.suffix),
    unique: newId("model"),
    checkpointStep: parts.checkpointStep ?? null,
  });
}

export function formatModelName(name: FineTunedModelName): string {
  const end = name.checkpointStep === null ? "" : `:ckpt-step-${name.checkpointStep}`;
  return `ft:${name.base}:${name.organization}:${name.suffix}:${name.unique}${end}`;
}

/** A name or an id as a part of an address. A colon is legal there and stands in every fine-tuned model's name; OpenAI's own clients send it as it is. */
export function inAddress(name: string): string {
  return encodeURIComponent(name).replaceAll("%3A", ":");
}

/** Null when the text is not the name of a fine-tuned model. */
export function parseModelName(text: string): FineTunedModelName | null {
  const match = NAME.exec(text);
  if (match === null) return null;
  const [, base = "", organization = "", suffix = "", unique = "", step] = match;
  return {
    base,
    organization,
    suffix,
    unique,
    checkpointStep: step === undefined ? null : Number(step),
  };
}

/** The base that a model made from this one is named after: a fine-tuned model hands on its own. */
export function baseInName(model: string): string {
  return parseModelName(model)?.base ?? model;
}

/**
 * A suffix as it stands in a name: everything but letters, digits, dot, hyphen and underscore becomes a hyphen, because a colon
 * would split the name and a slash would split the URL. The job keeps the suffix as it was sent.
 */
export function suffixInName(suffix: string | null): string {
  return suffix === null ? "" : suffix.replaceAll(/[^A-Za-z0-9._-]/g, "-");
}
