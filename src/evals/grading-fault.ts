// What goes wrong while a grader runs and is an answer, not an error of the request: one of OpenAI's flags, and the words for
// the two kinds that have a place for words.
import type { GraderErrors } from "../wire/graders.ts";

/** The members of the run answer's errors that are true or false. */
export type FaultFlag = {
  [Name in keyof GraderErrors]: GraderErrors[Name] extends boolean ? Name : never;
}[keyof GraderErrors];

/** Thrown inside a grader; its score is then 0. */
export class GradingFault extends Error {
  override readonly name = "GradingFault";
  readonly flag: FaultFlag;

  constructor(flag: FaultFlag, message: string, options?: ErrorOptions) {
    super(message, options);
    this.flag = flag;
  }
}
