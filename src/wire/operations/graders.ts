// The operations of /v1/fine_tuning/alpha/graders.
import {
  runGraderRequest,
  runGraderResponse,
  validateGraderRequest,
  validateGraderResponse,
} from "../graders.ts";
import type { Operation } from "./operation.ts";

const tag = "Graders";
const grader = {
  type: "string_check",
  name: "exact",
  input: "{{ sample.output_text }}",
  reference: "{{ item.label }}",
  operation: "eq",
};

export const GRADER_OPERATIONS: readonly Operation[] = [
  {
    method: "POST",
    path: "/v1/fine_tuning/alpha/graders/validate",
    id: "validateGrader",
    tag,
    summary: "Validate a grader",
    description: "Answers the grader in canonical form. Bad templates, formulas and Python answer 400.",
    body: validateGraderRequest,
    example: { grader },
    answer: validateGraderResponse,
  },
  {
    method: "POST",
    path: "/v1/fine_tuning/alpha/graders/run",
    id: "runGrader",
    tag,
    summary: "Run a grader",
    description:
      "What goes wrong while grading is not an error of the request: the answer is 200, the part that failed counts 0, and `metadata.errors` says why.",
    body: runGraderRequest,
    example: { grader, model_sample: "refund", item: { label: "refund" } },
    answer: runGraderResponse,
  },
];
