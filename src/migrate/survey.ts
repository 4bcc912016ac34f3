// What there is at OpenAI: files, jobs, fine-tuned models and evals, read and not changed. A section that OpenAI does not list is named with
// its reason, and the others go on. Stored completions, of which there may be very many, are listed by who wants them.
import { isPassingFault } from "./passing-faults.ts";
import type { OpenAiClient } from "./openai-client.ts";
import {
  openAiEval,
  openAiFile,
  openAiJob,
  openAiModel,
  type OpenAiEval,
  type OpenAiFile,
  type OpenAiJob,
} from "./openai-objects.ts";
import { messageOf } from "../errors.ts";
import { shutDownOf, type ShutDown } from "./shutdown-dates.ts";

export const SECTIONS = ["files", "jobs", "models", "evals", "stored completions"] as const;
export type Section = (typeof SECTIONS)[number];

export interface SectionProblem {
  section: Section;
  message: string;
}

export interface FoundModel extends ShutDown {
  id: string;
  /** The job it came from; null where no job of the list made it. */
  job: string | null;
  /** Whether OpenAI still lists it. */
  listed: boolean;
}

export interface Survey {
  files: OpenAiFile[];
  jobs: OpenAiJob[];
  models: FoundModel[];
  evals: OpenAiEval[];
  problems: SectionProblem[];
}

/** Objects of one kind; more are not listed, so that memory stays bounded. */
const MAX_LISTED = 100_000;

export async function surveyOpenAi(client: OpenAiClient): Promise<Survey> {
  const problems: SectionProblem[] = [];
  // The first list is the one that a wrong key stops at.
  const jobs = await section(problems, "jobs", client.list("/fine_tuning/jobs", openAiJob, { limit: 100 }));
  const files = await section(problems, "files", client.list("/files", openAiFile, { limit: 10_000 }));
  const models = await section(problems, "models", client.list("/models", openAiModel));
  const evals = await section(problems, "evals", client.list("/evals", openAiEval, { limit: 100 }));
  const isMissing = problems.some((problem) => problem.section === "models");
  return { files, jobs, models: isMissing ? [] : fineTunedModels(models, jobs), evals, problems };
}

async function section<Element>(
  problems: SectionProblem[],
  name: Section,
  elements: AsyncIterable<Element>,
): Promise<Element[]> {
  const found: Element[] = [];
  try {
    for await (const element of elements) {
      if (found.length === MAX_LISTED) {
        problems.push({ section: name, message: `There are more than ${MAX_LISTED}; the rest is left out.` });
        break;
      }
      found.push(element);
    }
  } catch (error) {
    if (!isPassingFault(error)) throw error;
    problems.push({ section: name, message: messageOf(error) });
  }
  return found;
}

/** Those that OpenAI lists, and those that jobs have made and that are gone. Newest first where the jobs say so. */
function fineTunedModels(
  listed: readonly { id: string; shutdown_date?: string | null | undefined }[],
  jobs: readonly OpenAiJob[],
): FoundModel[] {
  const cards = new Map(listed.map((model) => [model.id, model]));
  const made = new Map<string, string>();
  for (const { id, fine_tuned_model: model } of jobs) if (typeof model === "string") made.set(model, id);
  const names = new Set([...made.keys(), ...[...cards.keys()].filter((id) => id.startsWith("ft:"))]);
  return [...names].map((id) => ({
    id,
    job: made.get(id) ?? null,
    listed: cards.has(id),
    ...shutDownOf(id, cards.get(id)?.shutdown_date ?? null),
  }));
}
