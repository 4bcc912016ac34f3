// Every backward rule against central differences, in float64 on the interpreter. The test walks the operator table: a new
// operator without a case does not compile, and one whose rule is wrong fails here.
import { describe, expect, it } from "vitest";
import { evaluate } from "../../test/reference/interpreter.ts";
import type { Tensor, TensorFeeds } from "../../test/reference/interpreter.ts";
import { buildCase, OP_CASES } from "../../test/reference/op-cases.ts";
import type { BuiltCase } from "../../test/reference/op-cases.ts";
import { createRandom } from "../random.ts";
import { backward } from "./backward.ts";
import { GRADIENTS } from "./gradients.ts";
import type { BackwardRule } from "./gradients.ts";
import { OPS } from "./ops.ts";
import { subgraph } from "./subgraph.ts";
import { GraphError } from "./value.ts";
import type { OpKind, Value } from "./value.ts";

/** Relative to the largest gradient. The differences below are of fourth order: their own error is about 1e-11. */
const TOLERANCE = 1e-9;
const STEP = 1e-3;

const KINDS = Object.keys(OPS) as OpKind[];

it("has a shape rule, a backward rule and cases for every operator", () => {
  expect(Object.keys(GRADIENTS).sort()).toEqual([...KINDS].sort());
  expect(Object.keys(OP_CASES).sort()).toEqual([...KINDS].sort());
  // @ts-expect-error A table that lacks operators does not compile.
  const partial: typeof GRADIENTS = { Add: GRADIENTS.Add };
  expect(Object.keys(partial)).toHaveLength(1);
});

describe.each(KINDS)("%s", (kind) => {
  it.each(OP_CASES[kind].map((one) => [one.title, one] as const))("%s", (_title, one) => {
    const built = buildCase(one);
    const node = built.g.nodes.find((each) => each.kind === kind);
    if (node === undefined) throw new Error(`the case has no ${kind}`);
    const seeds = declareSeeds(built);
    for (const input of constantInputs(built)) {
      expect(() => backward(built.g, seeds, [input])).toThrow(GraphError);
      expect(() => backward(built.g, seeds, [input])).toThrow("has no derivative with respect to its input");
    }
    for (const [i, gradient] of gradients(built, seeds).entries()) {
      const expected = centralDifferences(built, seeds, built.targets[i] as Value);
      expect(gradient.shape).toEqual(expected.shape);
      const scale = Math.max(1, ...expected.data.map(Math.abs));
      const error = Math.max(
        ...expected.data.map((value, j) => Math.abs(value - (gradient.data[j] as number))),
      );
      expect(error / scale, built.targets[i]?.name).toBeLessThan(TOLERANCE);
    }

    function constantInputs({ g }: BuiltCase): Value[] {
      const rule = GRADIENTS[kind] as BackwardRule<OpKind>;
      const dys = (node?.outputs ?? []).map((output, j) => (j === 0 ? output : null));
      const recipes = rule(g, node as NonNullable<typeof node>, dys);
      return (node?.inputs ?? []).filter(
        (input, i) => recipes[i] === "notDifferentiable" && input.node === null,
      );
    }
  });
});

/** One gradient input per output; feeds it random numbers. The loss is the sum of outputs times these. */
function declareSeeds({ g, feeds, outputs }: BuiltCase): { value: Value; gradient: Value }[] {
  outputs.forEach((value, i) => g.output(`y${i}`, value));
  const results = evaluate(g, feeds);
  g.outputs.length = 0;
  const random = createRandom(7);
  return outputs.map((value, i) => {
    const gradient = g.input(`dy${i}`, "float32", value.shape);
    const { shape, data } = results[`y${i}`] as Tensor;
    feeds[gradient.name] = { shape, data: data.map(() => random.next() * 2 - 1) };
    return { value, gradient };
  });
}

function gradients({ g, feeds, targets }: BuiltCase, seeds: { value: Value; gradient: Value }[]): Tensor[] {
  const values = backward(g, seeds, targets);
  const names = targets.map((target) => `d_${target.name}`);
  const results = evaluate(
    subgraph(g, Object.fromEntries(names.map((name, i) => [name, values[i] as Value]))),
    feeds,
  );
  return names.map((name) => results[name] as Tensor);
}

/** The gradient of the loss by one input, element by element, with the five-point stencil. */
function centralDifferences(
  { g, feeds, outputs }: BuiltCase,
  seeds: { gradient: Value }[],
  target: Value,
): Tensor {
  const graph = subgraph(g, Object.fromEntries(outputs.map((value, i) => [`y${i}`, value])));
  const lossAt = (changed: TensorFeeds): number => {
    const results = evaluate(graph, changed);
    return seeds.reduce((loss, { gradient }, i) => {
      const weights = (feeds[gradient.name] as Tensor).data;
      return (
        loss + (results[`y${i}`] as Tensor).data.reduce((sum, y, j) => sum + y * (weights[j] as number), 0)
      );
    }, 0);
  };
  const { shape, data } = feeds[target.name] as Tensor;
  const slopes = data.map((value, i) => {
    const moved = (steps: number): number =>
      lossAt({ ...feeds, [target.name]: { shape, data: data.with(i, value + steps * STEP) } });
    return (8 * (moved(1) - moved(-1)) - (moved(2) - moved(-2))) / (12 * STEP);
  });
  return { shape, data: slopes };
}
