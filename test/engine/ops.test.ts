// Every operator on ONNX Runtime, forward and backward, against the interpreter: domains, attributes and shapes as
// onnx.ts writes them mean what the graph means. Walks the operator table, so that a new operator is tested or fails.
import { describe, expect, it } from "vitest";
import { backward } from "../../src/graph/backward.ts";
import { OPS } from "../../src/graph/ops.ts";
import type { OpKind, Value } from "../../src/graph/value.ts";
import { buildCase, OP_CASES } from "../reference/op-cases.ts";
import { expectSameAsInterpreter } from "./on-both-engines.ts";

const KINDS = Object.keys(OPS) as OpKind[];

describe.each(KINDS)("%s on ONNX Runtime", (kind) => {
  it.each(OP_CASES[kind].map((one) => [one.title, one] as const))("%s", async (_title, one) => {
    const { g, feeds, targets, outputs } = buildCase(one);
    expect(g.nodes.map((node) => node.kind)).toContain(kind);
    for (const [i, value] of outputs.entries()) g.output(`y${i}`, value);
    // The outputs themselves serve as gradients: the loss is half the sum of their squares.
    const seeds = outputs.map((value) => ({ value, gradient: value }));
    for (const [i, gradient] of backward(g, targets.length === 0 ? [] : seeds, targets).entries()) {
      g.output(`d_${(targets[i] as Value).name}`, gradient);
    }
    await expectSameAsInterpreter(g, feeds);
  });
});
