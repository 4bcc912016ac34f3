// The user's graders on both answers of a prompt, run by the server.
import { InvalidRequest, messageOf } from "../errors.ts";
import type { RunGraderResponse, ValidateGraderResponse } from "../wire/graders.ts";
import { statusOf, type TunesmithClient } from "./tunesmith-client.ts";

export interface Grader {
  name: string;
  definition: object;
}

export interface GraderScores {
  old: number;
  new: number;
  /** Answers that could not be judged, 0 to 2. */
  errors: number;
}

/** Throws InvalidRequest for a file that is no grader, before a prompt is sent. */
export async function gradersOf(
  client: TunesmithClient,
  paths: readonly string[],
  read: (path: string) => Promise<string>,
): Promise<Grader[]> {
  const graders: Grader[] = [];
  for (const path of paths) {
    let definition: unknown;
    try {
      definition = JSON.parse(await read(path));
    } catch (error) {
      throw new InvalidRequest(`${path} is no grader: expected a JSON file (${messageOf(error)}).`, {
        cause: error,
      });
    }
    try {
      const { grader } = await client.post<ValidateGraderResponse>("/fine_tuning/alpha/graders/validate", {
        grader: definition,
      });
      graders.push({ name: grader.name, definition: grader });
    } catch (error) {
      if (statusOf(error) !== 400) throw error;
      throw new InvalidRequest(`${path} is no grader that the server knows: ${messageOf(error)}`, {
        cause: error,
      });
    }
  }
  return graders;
}

/** An answer that is missing scores 0, as one that cannot be judged. */
export async function gradePair(
  client: TunesmithClient,
  { definition }: Grader,
  answers: { old: string; new: string | null },
  item: object,
): Promise<GraderScores> {
  const grade = async (sample: string | null): Promise<{ reward: number; errors: number }> => {
    if (sample === null) return { reward: 0, errors: 0 };
    const { reward, metadata } = await client.post<RunGraderResponse>("/fine_tuning/alpha/graders/run", {
      grader: definition,
      model_sample: sample,
      item,
    });
    return { reward, errors: Object.values(metadata.errors).includes(true) ? 1 : 0 };
  };
  const [first, second] = [await grade(answers.old), await grade(answers.new)];
  return { old: first.reward, new: second.reward, errors: first.errors + second.errors };
}
