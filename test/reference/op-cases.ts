// At least one small graph for every operator, with seeded data: what the gradient checks (float64) and the checks of ONNX
// Runtime against the interpreter (float32) run over. An operator without a case does not compile.
import type { Dimension, Shape } from "../../src/graph/dimensions.ts";
import { Graph } from "../../src/graph/graph.ts";
import type { DataType, OpKind, Value } from "../../src/graph/value.ts";
import { createRandom } from "../../src/random.ts";
import type { Tensor } from "./interpreter.ts";

export interface OpCase {
  title: string;
  /** Builds the graph and returns what it computes. */
  outputs: (c: CaseBuilder) => readonly Value[];
}

export interface BuiltCase {
  g: Graph;
  feeds: Record<string, Tensor>;
  outputs: readonly Value[];
  /** Inputs that must have a derivative. */
  targets: Value[];
}

/** Sizes of the named dimensions of all cases. */
const SIZES: Readonly<Record<string, number>> = { B: 2, T: 3, S: 4, N: 5 };

/** Declares inputs and makes their data: float32 numbers, so that both engines see the same ones. */
export class CaseBuilder {
  readonly g = new Graph();
  readonly feeds: Record<string, Tensor> = {};
  readonly targets: Value[] = [];
  readonly #random = createRandom(20240607);

  /** An input with a derivative, uniform in [low, high). */
  real(shape: Shape, low = -1.5, high = 1.5): Value {
    const value = this.#feed("float32", shape, () => Math.fround(low + this.#random.next() * (high - low)));
    this.targets.push(value);
    return value;
  }

  /** Any other input: the given values, or uniform ones. */
  given(dtype: DataType, shape: Shape, values?: readonly number[]): Value {
    return this.#feed(dtype, shape, (i) => values?.[i] ?? Math.fround(this.#random.next() * 3 - 1.5));
  }

  #feed(dtype: DataType, shape: Shape, valueAt: (i: number) => number): Value {
    const value = this.g.input(`in${this.g.inputs.length}`, dtype, shape);
    const sizes = shape.map(caseSize);
    const count = sizes.reduce((total, size) => total * size, 1);
    this.feeds[value.name] = {
      shape: sizes,
      data: Float64Array.from({ length: count }, (_, i) => valueAt(i)),
    };
    return value;
  }
}

/** The size of a dimension in every case: "2*T" is 6, "S+T" is 7. */
function caseSize(dimension: Dimension): number {
  const factor = (text: string): number => SIZES[text] ?? Number(text);
  return String(dimension)
    .split("+")
    .reduce((sum, term) => sum + term.split("*").reduce((total, text) => total * factor(text), 1), 0);
}

export function buildCase({ outputs }: OpCase): BuiltCase {
  const builder = new CaseBuilder();
  const values = outputs(builder);
  const { g, feeds, targets } = builder;
  return { g, feeds, targets, outputs: values };
}

const FLAGS = [
  { transA: false, transB: false },
  { transA: true, transB: false },
  { transA: false, transB: true },
  { transA: true, transB: true },
];

/** A shape whose last two sizes are swapped where the product transposes it back. */
const stored = (shape: readonly number[], transposed: boolean): readonly number[] =>
  transposed ? [...shape.slice(0, -2), shape.at(-1) as number, shape.at(-2) as number] : shape;

function elementwise(kind: "Add" | "Sub" | "Mul" | "Div"): OpCase[] {
  const shapes: [Shape, Shape][] = [
    [
      [2, 3],
      [2, 3],
    ],
    [[2, 3, 4], [4]],
    [[4], [2, 3, 4]],
    [
      [2, 1, 4],
      [1, 3, 1],
    ],
    [[], [2, 3]],
    [[1], [1, 1]],
    [
      ["N", 3],
      ["N", 1],
    ],
    [["B", "T", 2], [2]],
  ];
  const cases = shapes.map(([a, b]) => ({
    title: `[${a.join()}] with [${b.join()}]`,
    outputs: (c: CaseBuilder) => [c.g.op(kind, [c.real(a), c.real(b, 0.5, 2)], {})],
  }));
  const twice: OpCase = {
    title: "the same tensor twice",
    outputs: (c) => {
      const x = c.real([2, 3], 0.5, 2);
      return [c.g.op(kind, [x, x], {})];
    },
  };
  return [...cases, twice];
}

function unary(kind: "Exp" | "Sigmoid" | "Erf" | "Gelu" | "FastGelu"): OpCase[] {
  return [[2, 3], [1], [], ["N", 2]].map((shape) => ({
    title: `[${shape.join()}]`,
    outputs: (c) => [c.g.op(kind, [c.real(shape, -3, 3)], {})],
  }));
}

function alongLast(kind: "Softmax" | "LogSoftmax"): OpCase[] {
  return [
    ...[
      [2, 5],
      [2, 3, 1],
      ["B", "T", 4],
      ["B", "T"],
    ].map((shape) => ({
      title: `[${shape.join()}]`,
      outputs: (c: CaseBuilder) => [c.g.op(kind, [c.real(shape, -5, 5)], {})],
    })),
    {
      title: "large numbers",
      outputs: (c) => [c.g.op(kind, [c.g.mul(c.real([2, 4]), c.g.constant(80))], {})],
    },
  ];
}

function reduction(kind: "ReduceSum" | "ReduceMax"): OpCase[] {
  const cases: [Shape, number[]][] = [
    [[3, 4], [0]],
    [[3, 4], [-1]],
    [
      [2, 3, 4],
      [0, 2],
    ],
    [
      [2, 3, 4],
      [0, 1, 2],
    ],
    [[2, 1, 3], [1]],
    [["B", "T", 2], [1]],
  ];
  return cases.flatMap(([shape, axes]) =>
    [true, false].map((keepDims) => ({
      title: `[${shape.join()}] over ${axes.join()}${keepDims ? ", kept" : ""}`,
      outputs: (c: CaseBuilder) => {
        const x = kind === "ReduceSum" ? c.real(shape) : c.given("float32", shape);
        return [c.g.op(kind, [x], { axes, keepDims })];
      },
    })),
  );
}

/** Rows of 3, 1 and 2 tokens as a block [3, 3]: padding names token 0. */
const BLOCK = {
  index: [0, 1, 2, 3, 0, 0, 4, 5, 0],
  mask: [1, 1, 1, 1, 0, 0, 1, 1, 0],
  flat: [0, 1, 2, 3, 6, 7],
};

export const OP_CASES: { readonly [K in OpKind]: readonly OpCase[] } = {
  Add: elementwise("Add"),
  Sub: elementwise("Sub"),
  Mul: elementwise("Mul"),
  Div: elementwise("Div"),
  Exp: unary("Exp"),
  Sigmoid: unary("Sigmoid"),
  Erf: unary("Erf"),
  Gelu: [
    ...unary("Gelu"),
    {
      title: "behind a bias, as ONNX Runtime joins them",
      outputs: (c) => [c.g.op("Gelu", [c.g.add(c.real(["N", 4]), c.real([4]))], {})],
    },
    {
      title: "far from zero",
      outputs: (c) => [c.g.op("Gelu", [c.g.mul(c.real([3]), c.g.constant(20))], {})],
    },
  ],
  FastGelu: [
    ...unary("FastGelu").filter(({ title }) => title !== "[]"),
    {
      title: "where the tangent is 1 or -1",
      outputs: (c) => [c.g.op("FastGelu", [c.g.mul(c.real([3]), c.g.constant(20))], {})],
    },
  ],
  QuickGelu: [[2, 3], [], ["N", 2]].map((shape) => ({
    title: `[${shape.join()}]`,
    outputs: (c) => [c.g.op("QuickGelu", [c.real(shape, -4, 4)], { alpha: 1 })],
  })),
  Softmax: [
    ...alongLast("Softmax"),
    {
      title: "a causal mask",
      outputs: (c) => {
        const mask = c.given("float32", [3, 3], [0, -1e9, -1e9, 0, 0, -1e9, 0, 0, 0]);
        return [c.g.op("Softmax", [c.g.add(c.real([2, 3, 3]), mask)], {})];
      },
    },
  ],
  LogSoftmax: alongLast("LogSoftmax"),
  SimplifiedLayerNormalization: [
    ...[
      [3, 4],
      [2, 3, 5],
      [2, 1],
      ["N", 2, 4],
    ].map((shape) => ({
      title: `[${shape.join()}]`,
      outputs: (c: CaseBuilder) => [
        c.g.op("SimplifiedLayerNormalization", [c.real(shape), c.real(shape.slice(-1))], { epsilon: 1e-2 }),
      ],
    })),
    {
      title: "both outputs",
      outputs: (c) => {
        const inputs = [c.given("float32", [3, 4]), c.given("float32", [4])];
        return c.g.apply("SimplifiedLayerNormalization", inputs, { epsilon: 1e-5 });
      },
    },
  ],
  LayerNormalization: [
    ...[
      [3, 4],
      [2, 3, 5],
      [2, 1],
      ["N", 4],
    ].map((shape) => ({
      title: `[${shape.join()}]`,
      outputs: (c: CaseBuilder) => {
        const width = shape.slice(-1);
        return [
          c.g.op("LayerNormalization", [c.real(shape), c.real(width), c.real(width)], { epsilon: 1e-2 }),
        ];
      },
    })),
    {
      title: "all outputs",
      outputs: (c) => {
        const inputs = [c.given("float32", [3, 4]), c.given("float32", [4]), c.given("float32", [4])];
        return c.g.apply("LayerNormalization", inputs, { epsilon: 1e-12 });
      },
    },
  ],
  RotaryEmbedding: [
    [2, 4],
    [1, 2],
    [3, 6],
  ].map(([heads, width]) => ({
    title: `${heads} heads of ${width}`,
    outputs: (c) => {
      const [numHeads, headWidth] = [heads as number, width as number];
      const x = c.real(["N", 1, numHeads * headWidth]);
      const positions = c.given("int64", ["N", 1], [0, 3, 1, 3, 2]);
      const caches = [0, 1].map(() => c.given("float32", ["S", headWidth / 2]));
      return [c.g.op("RotaryEmbedding", [x, positions, ...caches], { numHeads })];
    },
  })),
  FusedMatMul: [
    ...FLAGS.flatMap((flags) =>
      (
        [
          [
            [3, 4],
            [4, 5],
          ],
          [
            [2, 2, 6, 4],
            [2, 2, 4, 5],
          ],
          [
            [2, 1, 3, 4],
            [1, 3, 4, 2],
          ],
          [
            [2, 3, 4],
            [4, 5],
          ],
          [
            [3, 4],
            [2, 4, 5],
          ],
          [
            [2, 1, 1],
            [1, 1, 4],
          ],
        ] as const
      ).map(([a, b]) => ({
        title: `[${a.join()}] ${flags.transA ? "from its transpose " : ""}by [${b.join()}]${flags.transB ? " from its transpose" : ""}`,
        outputs: (c: CaseBuilder) => [
          c.g.matmul(c.real(stored(a, flags.transA)), c.real(stored(b, flags.transB)), {
            ...flags,
            alpha: 0.75,
          }),
        ],
      })),
    ),
    {
      title: "a tensor by its own transpose",
      outputs: (c) => {
        const x = c.real(["B", "T", 4]);
        return [c.g.matmul(x, x, { transB: true })];
      },
    },
  ],
  Gemm: [
    ...FLAGS.flatMap((flags) =>
      [false, true].map((added) => ({
        title: `transA ${flags.transA}, transB ${flags.transB}, ${added ? "with" : "without"} C`,
        outputs: (c: CaseBuilder) => {
          const [a, b] = [c.real(stored([3, 4], flags.transA)), c.real(stored([4, 2], flags.transB))];
          return [c.g.gemm(a, b, { ...flags, alpha: 0.75, ...(added ? { c: c.real([3, 2]) } : {}) })];
        },
      })),
    ),
    {
      title: "one matrix in all three places",
      outputs: (c) => {
        const x = c.real([3, 3]);
        return [c.g.gemm(x, x, { transB: true, c: x })];
      },
    },
    { title: "named rows", outputs: (c) => [c.g.gemm(c.real(["N", 4]), c.real([2, 4]), { transB: true })] },
  ],
  Reshape: (
    [
      [
        [2, 6],
        [3, 4],
      ],
      [[2, 3], [6]],
      [
        ["N", 6],
        ["N", 2, 3],
      ],
      [
        ["B", "T", 4],
        ["B", "2*T", 2],
      ],
      [[1, "N", 1], ["N"]],
    ] as const
  ).map(([from, to]) => ({
    title: `[${from.join()}] to [${to.join()}]`,
    outputs: (c) => [c.g.op("Reshape", [c.real(from)], { shape: to })],
  })),
  Transpose: [
    [0, 1, 2],
    [1, 0, 2],
    [2, 0, 1],
    [1, 2, 0],
    [0, 2, 3, 1],
    [0, 3, 1, 2, 4],
  ].map((permutation) => ({
    title: permutation.join(),
    outputs: (c) => [c.g.transpose(c.real([2, 3, 4, 1, 2].slice(0, permutation.length)), permutation)],
  })),
  Concat: [
    ...[0, 1, -1].map((axis) => ({
      title: `three parts along ${axis}`,
      outputs: (c: CaseBuilder) => {
        const parts = [2, 1, 3].map((size) => c.real([2, 2, 2].with(axis, size)));
        return [c.g.op("Concat", parts, { axis })];
      },
    })),
    {
      title: "the same part twice",
      outputs: (c) => {
        const x = c.real(["N", 2]);
        return [c.g.op("Concat", [x, x], { axis: 1 })];
      },
    },
  ],
  Split: [
    ...[0, 1, -1].map((axis) => ({
      title: `three parts along ${axis}`,
      outputs: (c: CaseBuilder) => c.g.apply("Split", [c.real([6, 6])], { axis, sizes: [1, 3, 2] }),
    })),
    {
      title: "of which one is used",
      outputs: (c) => c.g.apply("Split", [c.real(["N", 5])], { axis: 1, sizes: [2, 3] }).slice(1),
    },
    {
      title: "equal named sizes",
      outputs: (c) => {
        const parts = c.g.apply("Split", [c.real(["3*T", 2])], { axis: 0, sizes: ["T", "T", "T"] });
        return [parts[2] as Value, c.g.op("Concat", parts.slice(0, 2), { axis: 0 })];
      },
    },
    {
      title: "named sizes",
      outputs: (c) => {
        const [s, t] = [c.real(["B", "S"]), c.real(["B", "T"])];
        const sizes = c.given("int64", [2], [4, 3]);
        const parts = c.g.apply("Split", [c.real(["B", "S+T"]), sizes], { axis: 1, sizes: ["S", "T"] });
        return [c.g.mul(parts[0] as Value, s), c.g.mul(parts[1] as Value, t)];
      },
    },
  ],
  Gather: [
    {
      title: "rows of a table, without an inverse",
      outputs: (c) => {
        const x = c.given("float32", [4, 3]);
        return [c.g.op("Gather", [x, c.given("int64", [2, 3], [0, 3, 3, 1, 0, 2])], { inverse: null })];
      },
    },
    {
      title: "a permutation",
      outputs: (c) => {
        const x = c.real([4, 3]);
        const [index, inverse] = [c.given("int32", [4], [2, 0, 3, 1]), c.given("int32", [4], [1, 3, 0, 2])];
        return [c.g.op("Gather", [x, index], { inverse })];
      },
    },
    {
      title: "rows into a padded block",
      outputs: (c) => {
        const [index, inverse] = [c.given("int32", [3, 3], BLOCK.index), c.given("int32", [6], BLOCK.flat)];
        const mask = c.g.constant(BLOCK.mask, "float32", [3, 3, 1]);
        return [c.g.mul(c.g.op("Gather", [c.real([6, 2]), index], { inverse }), mask)];
      },
    },
    {
      title: "a padded block into rows",
      outputs: (c) => {
        const [index, inverse] = [c.given("int32", [6], BLOCK.flat), c.given("int32", [3, 3], BLOCK.index)];
        const mask = c.g.constant(BLOCK.mask, "float32", [9, 1]);
        return [c.g.op("Gather", [c.g.mul(c.real([9, 2]), mask), index], { inverse })];
      },
    },
  ],
  GatherElements: [
    {
      title: "one of each row",
      outputs: (c) => [
        c.g.op("GatherElements", [c.given("float32", ["T", 5]), c.given("int64", ["T", 1], [4, 0, 2])], {}),
      ],
    },
  ],
  ReduceSum: reduction("ReduceSum"),
  ReduceMax: reduction("ReduceMax"),
};
