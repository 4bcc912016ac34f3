import { expect, it } from "vitest";
import { Graph } from "./graph.ts";
import { dependentsLast } from "./order.ts";
import { verify } from "./verify.ts";

it("writes what depends on the roots last, and keeps the order otherwise", () => {
  const g = new Graph();
  const [x, root] = [g.input("x", "float32", ["N"]), g.input("root", "float32", ["N"])];
  const first = g.op("Exp", [x], {});
  const late = g.mul(first, root);
  const second = g.op("Sigmoid", [first], {});
  g.output("y", g.mul(late, second));
  dependentsLast(g, [root]);
  expect(g.nodes.map(({ kind }) => kind)).toEqual(["Exp", "Sigmoid", "Mul", "Mul"]);
  expect(g.nodes[2]?.outputs[0]).toBe(late);
  verify(g);
});
