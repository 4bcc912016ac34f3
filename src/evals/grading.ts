// Runs graders: one function for each kind, and multi graders over them. What a grader needs from outside, a judge, embeddings,
// Python, is passed in; what goes wrong inside one is a fault of its result, not an error.
import { InvalidRequest, Unavailable } from "../errors.ts";
import type {
  Grader,
  MultiGrader,
  PythonGrader,
  SingleGrader,
  StringCheckGrader,
  TextSimilarityGrader,
} from "../wire/graders.ts";
import { parseFormula } from "./formula.ts";
import { GradingFault } from "./grading-fault.ts";
import { graderTexts, labelByModel, scoreByModel } from "./model-graders.ts";
import type { Complete, Completion, Judgement } from "./model-graders.ts";
import type { PythonGraders } from "./python-graders.ts";
import type { GradingContext } from "./sample.ts";
import { fillTemplate, parseTemplate } from "./template.ts";
import { requireEmbed, textSimilarity } from "./text-similarity.ts";
import type { SimilarityParts } from "./text-similarity.ts";

export interface GradingParts extends SimilarityParts {
  complete: Complete;
  /** Whether a model of this name can be asked to judge. */
  isModel: (name: string) => Promise<boolean>;
  /** Null: the operator has not switched Python graders on. */
  python: PythonGraders | null;
}

export interface Grade {
  score: number;
  faults: readonly GradingFault[];
  /** Every judge that answered. */
  completions: readonly Completion[];
  /** Scores of a multi grader's graders, by their keys. */
  subScores: Readonly<Record<string, number>>;
}

export class Grading {
  readonly #parts: GradingParts;

  constructor(parts: GradingParts) {
    this.#parts = parts;
  }

  /**
   * Throws InvalidRequest for a grader that this server cannot run as it is set up: an unknown judge, Python that is off, no
   * embedding model. `param` names the grader in the request.
   */
  async requireMeans(grader: Grader, param: string): Promise<void> {
    for (const [path, each] of singles(grader, param)) {
      if (each.type === "python") requirePython(this.#parts.python, `${path}.type`);
      if (each.type === "text_similarity" && each.evaluation_metric === "cosine") {
        requireEmbed(this.#parts.embed, `${path}.evaluation_metric`);
      }
      if (each.type === "score_model" || each.type === "label_model") {
        if (await this.#parts.isModel(each.model)) continue;
        throw new InvalidRequest(
          `The model '${each.model.slice(0, 200)}' does not exist or you do not have access to it. A grader's 'model' is one of this server's; GET /v1/models lists them.`,
          { code: "model_not_found", param: `${path}.model` },
        );
      }
    }
  }

  /** Throws InvalidRequest for what running would only find out on the way: bad templates, formulas and Python. */
  async check(grader: Grader, param: string, signal: AbortSignal): Promise<void> {
    for (const [path, each] of singles(grader, param)) {
      for (const [place, text] of templatesOf(each)) {
        await refusing(`${path}.${place}`, async () => parseTemplate(text));
      }
      if (each.type === "python") {
        const python = requirePython(this.#parts.python, `${path}.type`);
        await refusing(`${path}.source`, () => python.check(each.source, signal));
      }
    }
    if (grader.type === "multi") {
      await refusing(`${param}.calculate_output`, async () => formulaOf(grader));
    }
  }

  /** Grades one sample. Throws InvalidRequest for texts over a limit, and Cancelled. */
  async grade(grader: Grader, context: GradingContext, signal: AbortSignal): Promise<Grade> {
    return grader.type === "multi"
      ? this.#gradeMulti(grader, context, signal)
      : this.#gradeSingle(grader, context, signal);
  }

  async #gradeMulti(grader: MultiGrader, context: GradingContext, signal: AbortSignal): Promise<Grade> {
    const graded = await Promise.all(
      Object.entries(grader.graders).map(
        async ([key, each]) => [key, await this.#gradeSingle(each, context, signal)] as const,
      ),
    );
    const subScores = Object.fromEntries(graded.map(([key, { score }]) => [key, score]));
    const { score, faults } = await settled(async () => {
      const result = formulaOf(grader)(subScores);
      if (Number.isFinite(result)) return result;
      throw new GradingFault(
        "unresponsive_reward_error",
        `'calculate_output' gives no finite number but ${result}.`,
      );
    });
    return {
      score,
      faults: [...graded.flatMap(([, each]) => each.faults), ...faults],
      completions: graded.flatMap(([, each]) => each.completions),
      subScores,
    };
  }

  async #gradeSingle(grader: SingleGrader, context: GradingContext, signal: AbortSignal): Promise<Grade> {
    let judgement: Judgement | null = null;
    const { score, faults } = await settled(async () => {
      switch (grader.type) {
        case "string_check":
          return checkString(grader, context);
        case "text_similarity":
          return this.#compare(grader, context, signal);
        case "python":
          return this.#runPython(grader, context, signal);
        case "score_model":
          judgement = await scoreByModel(grader, context, this.#parts.complete, signal);
          return scoreOf(judgement);
        case "label_model":
          judgement = await labelByModel(grader, context, this.#parts.complete, signal);
          return scoreOf(judgement);
      }
    });
    const completion = (judgement as Judgement | null)?.completion ?? null;
    return { score, faults, completions: completion === null ? [] : [completion], subScores: {} };
  }

  async #compare(
    grader: TextSimilarityGrader,
    context: GradingContext,
    signal: AbortSignal,
  ): Promise<number> {
    const texts = {
      input: filled(grader.input, context),
      reference: filled(grader.reference, context),
    };
    return textSimilarity(grader.evaluation_metric, texts, this.#parts, signal);
  }

  async #runPython(grader: PythonGrader, context: GradingContext, signal: AbortSignal): Promise<number> {
    return requirePython(this.#parts.python, null).grade(grader.source, context, signal);
  }
}

function checkString(grader: StringCheckGrader, context: GradingContext): number {
  const [input, reference] = [filled(grader.input, context), filled(grader.reference, context)];
  const passes = {
    eq: () => input === reference,
    ne: () => input !== reference,
    like: () => input.includes(reference),
    ilike: () => input.toLowerCase().includes(reference.toLowerCase()),
  }[grader.operation];
  return passes() ? 1 : 0;
}

const filled = (text: string, context: GradingContext) => fillTemplate(parseTemplate(text), context);

const formulaOf = (grader: MultiGrader) => parseFormula(grader.calculate_output, Object.keys(grader.graders));

function scoreOf({ score, fault }: Judgement): number {
  if (fault !== null) throw fault;
  return score;
}

/** A score, or 0 with the fault that kept it from being one. */
async function settled(
  grade: () => Promise<number>,
): Promise<{ score: number; faults: readonly GradingFault[] }> {
  try {
    return { score: await grade(), faults: [] };
  } catch (error) {
    if (error instanceof GradingFault) return { score: 0, faults: [error] };
    throw error;
  }
}

function requirePython(python: PythonGraders | null, param: string | null): PythonGraders {
  if (python !== null) return python;
  throw new InvalidRequest(
    "Python graders run code from requests, and are switched off on this server. Use another type of grader, or have the operator set TUNESMITH_PYTHON_GRADERS.",
    { code: "unsupported_value", param },
  );
}

/** Turns a fault of the grader's own text into an error of the request. */
async function refusing(param: string, check: () => Promise<unknown>): Promise<void> {
  try {
    await check();
  } catch (error) {
    if (!(error instanceof GradingFault)) throw error;
    if (error.flag === "python_grader_server_error") {
      throw new Unavailable(`This server could not look at the Python of '${param}': ${error.message}`, {
        cause: error,
      });
    }
    throw new InvalidRequest(`Invalid '${param}': ${error.message}`, {
      code: "invalid_value",
      param,
      cause: error,
    });
  }
}

/** The graders that are no combination, each with its place in the request. */
function singles(grader: Grader, param: string): [param: string, grader: SingleGrader][] {
  if (grader.type !== "multi") return [[param, grader]];
  return Object.entries(grader.graders).map(([key, each]) => [`${param}.graders.${key}`, each]);
}

function templatesOf(grader: SingleGrader): [place: string, text: string][] {
  switch (grader.type) {
    case "string_check":
    case "text_similarity":
      return [
        ["input", grader.input],
        ["reference", grader.reference],
      ];
    case "score_model":
    case "label_model":
      return grader.input.flatMap(({ content }, i) =>
        graderTexts(content).map((text): [string, string] => [`input[${i}].content`, text]),
      );
    case "python":
      return [];
  }
}
