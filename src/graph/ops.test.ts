// What the shape rules refuse: each message names the operator, what it was given and what it expected.
import { describe, expect, it } from "vitest";
import type { Shape } from "./dimensions.ts";
import { Graph } from "./graph.ts";
import { GraphError } from "./value.ts";
import type { DataType, OpAttributes, OpKind } from "./value.ts";

/** An input as "int64 [B, 3]"; float32 where no type is named. */
type Given = Shape | readonly [DataType, Shape];

function apply<K extends OpKind>(kind: K, given: readonly Given[], attributes: OpAttributes[K]): string {
  const g = new Graph();
  const inputs = given.map((one, i) => {
    const [dtype, shape] = Array.isArray(one[1])
      ? (one as [DataType, Shape])
      : (["float32", one as Shape] as const);
    return g.input("abcd".charAt(i), dtype, shape);
  });
  try {
    return g
      .apply(kind, inputs, attributes)
      .map(({ dtype, shape }) => `${dtype}[${shape.join(", ")}]`)
      .join(" ");
  } catch (error) {
    expect(error).toBeInstanceOf(GraphError);
    expect(g.nodes).toHaveLength(0);
    return (error as GraphError).message;
  }
}

const MATRIX = { transA: false, transB: false, alpha: 1 };

describe("a shape rule refuses", () => {
  it("what does not broadcast, and mixed types", () => {
    expect(apply("Add", [["N", 3], [4]], {})).toBe(
      "internal: Add(a float32[N, 3], b float32[4]): the shapes do not broadcast",
    );
    expect(apply("Mul", [["N"], ["M"]], {})).toBe(
      "internal: Mul(a float32[N], b float32[M]): the shapes do not broadcast",
    );
    expect(apply("Sub", [[3], ["int64", [3]]], {})).toBe(
      "internal: Sub(a float32[3], b int64[3]): the types differ",
    );
  });

  it("a wrong number of inputs", () => {
    expect(apply("Exp", [[1], [1]], {})).toBe(
      "internal: Exp(a float32[1], b float32[1]): takes 1 inputs, got 2",
    );
    expect(apply("Gemm", [[2, 2]], MATRIX)).toBe(
      "internal: Gemm(a float32[2, 2]): takes 2 or 3 inputs, got 1",
    );
  });

  it("matrices whose inner sizes differ, before and after transposing", () => {
    const message = (inputs: string, sizes: string): string =>
      `internal: ${inputs}: the inner sizes differ: ${sizes}`;
    expect(
      apply(
        "FusedMatMul",
        [
          [2, 3],
          [4, 5],
        ],
        MATRIX,
      ),
    ).toBe(message("FusedMatMul(a float32[2, 3], b float32[4, 5])", "3 and 4"));
    expect(
      apply(
        "Gemm",
        [
          [2, 3],
          [3, 5],
        ],
        { ...MATRIX, transB: true },
      ),
    ).toBe(message("Gemm(a float32[2, 3], b float32[3, 5])", "3 and 5"));
    expect(
      apply(
        "Gemm",
        [
          [2, 3],
          [3, 5],
        ],
        { ...MATRIX, transA: true },
      ),
    ).toBe(message("Gemm(a float32[2, 3], b float32[3, 5])", "2 and 3"));
    expect(
      apply(
        "FusedMatMul",
        [
          ["N", "T"],
          ["S", 5],
        ],
        MATRIX,
      ),
    ).toContain("the inner sizes differ: T and S");
  });

  it("batches that do not broadcast, vectors, and a C of another shape", () => {
    expect(
      apply(
        "FusedMatMul",
        [
          [2, 3, 4],
          [3, 4, 5],
        ],
        MATRIX,
      ),
    ).toContain("the leading axes do not broadcast");
    expect(apply("FusedMatMul", [[4], [4, 5]], MATRIX)).toContain("axis -2 is outside of shape [4]");
    expect(
      apply(
        "Gemm",
        [
          [1, 2, 3],
          [3, 4],
        ],
        MATRIX,
      ),
    ).toContain("A and B must be matrices");
    expect(apply("Gemm", [["N", 3], [3, 4], [4]], MATRIX)).toBe(
      "internal: Gemm(a float32[N, 3], b float32[3, 4], c float32[4]): C must have shape [N, 4], has [4]",
    );
  });

  it("reshapes that lose elements or that ONNX cannot say", () => {
    expect(apply("Reshape", [["N", 6]], { shape: ["N", 5] })).toBe(
      "internal: Reshape(a float32[N, 6]): 6*N elements do not fit into [N, 5]",
    );
    expect(apply("Reshape", [["B*T", 4]], { shape: ["B", "T", 4] })).toBe(
      "internal: Reshape(a float32[B*T, 4]): only one named size may move, in [B*T, 4] to [B, T, 4]",
    );
  });

  it("permutations and axes that do not exist", () => {
    const wrong = "does not permute [2, 3]";
    expect(apply("Transpose", [[2, 3]], { permutation: [0, 0] })).toContain(`[0, 0] ${wrong}`);
    expect(apply("Transpose", [[2, 3]], { permutation: [1] })).toContain(`[1] ${wrong}`);
    expect(apply("ReduceSum", [[2, 3]], { axes: [2], keepDims: true })).toContain(
      "axis 2 is outside of shape [2, 3]",
    );
    expect(apply("ReduceMax", [[2, 3]], { axes: [], keepDims: true })).toBe(
      "internal: ReduceMax(a float32[2, 3]): axes must name at least one axis, are []",
    );
  });

  it("parts that do not fit together; sizes of parts add up", () => {
    expect(
      apply(
        "Concat",
        [
          [2, 3],
          [2, 4],
        ],
        { axis: 0 },
      ),
    ).toContain("each input must have shape [3], has [4]");
    expect(apply("Split", [[2, 5]], { axis: 1, sizes: [2, 2] })).toContain("sizes 2 + 2 are not 5");
    expect(
      apply(
        "Split",
        [
          ["B", "S+T"],
          ["int64", [3]],
        ],
        { axis: 1, sizes: ["S", "T"] },
      ),
    ).toContain("the sizes input must have shape [2], has [3]");
    expect(apply("Concat", [["2*T"], ["S"]], { axis: 0 })).toBe("float32[S+2*T]");
    expect(
      apply(
        "Concat",
        [
          ["B", "S"],
          ["B", "T"],
        ],
        { axis: 1 },
      ),
    ).toBe("float32[B, S+T]");
    expect(apply("Concat", [["2*T"], ["2*T"]], { axis: 0 })).toBe("float32[4*T]");
  });

  it("indices and positions of the wrong type or shape", () => {
    expect(apply("Gather", [[4, 2], [3]], { inverse: null })).toBe(
      "internal: Gather(a float32[4, 2], b float32[3]): indices must be int32 or int64, are float32",
    );
    expect(
      apply(
        "GatherElements",
        [
          ["N", 4],
          ["N", 1],
        ],
        {},
      ),
    ).toContain("must be int32 or int64, are float32");
    expect(
      apply(
        "GatherElements",
        [
          ["N", 4],
          ["int64", ["N"]],
        ],
        {},
      ),
    ).toContain("indices must have shape [N, 1], has [N]");
    const inverse = new Graph().input("inverse", "int32", [3]);
    expect(
      apply(
        "Gather",
        [
          [4, 2],
          ["int32", [4]],
        ],
        { inverse },
      ),
    ).toContain("inverse, flattened, must have shape [4], has [3]");
  });

  it("norms and rotations that do not fit", () => {
    expect(apply("SimplifiedLayerNormalization", [["N", 4], [3]], { epsilon: 1 })).toBe(
      "internal: SimplifiedLayerNormalization(a float32[N, 4], b float32[3]): the weight must have shape [4], has [3]",
    );
    expect(apply("LayerNormalization", [["N", 4], [4], [3]], { epsilon: 1 })).toBe(
      "internal: LayerNormalization(a float32[N, 4], b float32[4], c float32[3]): the bias must have shape [4], has [3]",
    );
    expect(apply("LayerNormalization", [["N", 4], [4]], { epsilon: 1 })).toContain("takes 3 inputs, got 2");
    const rotate = (x: Shape, positions: Given, cos: Shape, sin: Shape): string =>
      apply("RotaryEmbedding", [x, positions, cos, sin], { numHeads: 2 });
    const positions = ["int64", ["N", 1]] as const;
    expect(rotate(["N", 8], positions, ["P", 2], ["P", 2])).toContain("x must be [B, T, heads*E], is [N, 8]");
    expect(rotate(["N", 1, 8], ["int32", ["N", 1]], ["P", 2], ["P", 2])).toContain(
      "must be int64, are int32",
    );
    expect(rotate(["N", 1, 8], ["int64", ["N"]], ["P", 2], ["P", 2])).toContain(
      "positions must have shape [N, 1]",
    );
    expect(rotate(["N", 1, 6], positions, ["P", 2], ["P", 2])).toContain(
      "2 heads of even width do not make up 6",
    );
    expect(rotate(["N", 1, 8], positions, ["P", 4], ["P", 4])).toContain(
      "cos must have shape [P, 2], has [P, 4]",
    );
    expect(rotate(["N", 1, 8], positions, ["P", 2], ["Q", 2])).toContain(
      "sin must have shape [P, 2], has [Q, 2]",
    );
    expect(rotate(["N", 1, 8], positions, ["P", 2], ["P", 2])).toBe("float32[N, 1, 8]");
  });
});
