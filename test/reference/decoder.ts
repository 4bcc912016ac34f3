// The oracle: a Llama / Qwen2 / Qwen3 / Gemma 3 decoder's forward pass and loss with LoRA, as plain float64 loops in the style of
// llm.c's train_gpt2.c. One sequence at a time, no cache, no padding. It shares no code with src/ on purpose.
// Shapes use the legend of the engine: T tokens, D model width, H query heads, K key/value heads, E head width,
// F MLP width, V vocabulary, R LoRA rank. Matrices are row-major; a linear's weight is [out, in].

/** The low-rank update of one linear: y += scale * (x A^T) B^T (LoRA, arXiv:2106.09685, equation 3). */
export interface Lora {
  /** [R, in] */
  readonly a: Float64Array;
  /** [out, R] */
  readonly b: Float64Array;
  readonly rank: number;
  /** alpha / R */
  readonly scale: number;
}

export interface Linear {
  readonly inWidth: number;
  readonly outWidth: number;
  /** [out, in] */
  readonly weight: Float64Array;
  /** [out] */
  readonly bias?: Float64Array;
  readonly lora?: Lora;
}

/** Names of a layer's linears below `layers.N.`, as in Hugging Face and PEFT files. */
export const LINEAR_SITES = [
  "self_attn.q_proj",
  "self_attn.k_proj",
  "self_attn.v_proj",
  "self_attn.o_proj",
  "mlp.gate_proj",
  "mlp.up_proj",
  "mlp.down_proj",
] as const;
export type LinearSite = (typeof LINEAR_SITES)[number];

export interface Layer {
  readonly linears: Readonly<Record<LinearSite, Linear>>;
  /** [D] each, before attention and before the MLP. */
  readonly inputNorm: Float64Array;
  readonly mlpNorm: Float64Array;
  /** [D] each; Gemma 3 only: over what attention and MLP give, before it is added. */
  readonly attentionOutputNorm?: Float64Array;
  readonly mlpOutputNorm?: Float64Array;
  /** Angle per position of each pair of channels, [E/2]. */
  readonly frequencies: Float64Array;
  /** How many tokens a token sees, itself among them; Infinity for all before it. */
  readonly window: number;
  /** [E] each; Qwen3 and Gemma 3: RMSNorm over each head of q and k before RoPE. */
  readonly queryNorm?: Float64Array;
  readonly keyNorm?: Float64Array;
}

/** RoPE scaling of Llama 3.1: long wavelengths are stretched by `factor`, middle ones in part. */
export interface Llama3Scaling {
  readonly factor: number;
  readonly lowFrequencyFactor: number;
  readonly highFrequencyFactor: number;
  readonly originalLength: number;
}

export interface Decoder {
  readonly width: number;
  readonly heads: number;
  readonly keyValueHeads: number;
  readonly headWidth: number;
  readonly vocabulary: number;
  readonly normEpsilon: number;
  /** Attention scores are divided by its root. */
  readonly scoreScalar: number;
  readonly gate: Gate;
  /** What embedded tokens are multiplied by. */
  readonly embeddingScale: number;
  /** [V, D] */
  readonly embedding: Float64Array;
  readonly layers: readonly Layer[];
  /** [D] */
  readonly finalNorm: Float64Array;
  /** [V, D]; the embedding itself when the model ties them. */
  readonly head: Float64Array;
}

/** What the MLP's gate passes through, and its slope. */
export interface Gate {
  readonly value: (g: number) => number;
  readonly slope: (g: number) => number;
}

/** silu(g) = g s with s = 1 / (1 + e^-g) (arXiv:2002.05202). */
export const SILU: Gate = {
  value: (g) => g / (1 + Math.exp(-g)),
  slope: (g) => {
    const s = 1 / (1 + Math.exp(-g));
    return s + g * s * (1 - s);
  },
};

/** g/2 (1 + tanh(sqrt(2/π) (g + 0.044715 g³))) (arXiv:1606.08415, section 2). */
export const GELU_TANH: Gate = {
  value: (g) => (g / 2) * (1 + geluTangent(g)),
  slope: (g) => {
    const tangent = geluTangent(g);
    const inner = Math.sqrt(2 / Math.PI) * (1 + 3 * 0.044715 * g ** 2);
    return (1 + tangent) / 2 + (g / 2) * (1 - tangent ** 2) * inner;
  },
};

function geluTangent(g: number): number {
  return Math.tanh(Math.sqrt(2 / Math.PI) * (g + 0.044715 * g ** 3));
}

/** One training sequence; `mask[i]` = 1 when token i is supervised (it is predicted at position i - 1). */
export interface Sequence {
  readonly tokens: readonly number[];
  readonly mask: readonly number[];
}

/** What a linear keeps for its backward pass: its input [T, in] and x A^T [T, R]. */
export interface LinearTrace {
  readonly x: Float64Array;
  readonly down: Float64Array;
  /** [T, out] */
  readonly y: Float64Array;
}

/** What a layer keeps for its backward pass. */
export interface LayerTrace {
  /** [T, D], the residual stream before attention and before the MLP. */
  readonly attentionInput: Float64Array;
  readonly mlpInput: Float64Array;
  readonly linears: Readonly<Record<LinearSite, LinearTrace>>;
  /** q [T, H, E] and k [T, K, E] after norm and RoPE, as attention uses them. */
  readonly query: Float64Array;
  readonly key: Float64Array;
  /** [H, T, T], zero above the diagonal. */
  readonly probabilities: Float64Array;
}

export interface Trace {
  readonly layers: readonly LayerTrace[];
  /** [T, D], before the final norm. */
  readonly finalInput: Float64Array;
  /** [T, V] */
  readonly logits: Float64Array;
}

/** Reads an element that the loop bounds guarantee; a wrong bound gives NaN, which no comparison survives. */
export function at(values: Float64Array, index: number): number {
  return values[index] ?? NaN;
}

/** y[t, o] = sum_i x[t, i] w[o, i]; x is [rows, inWidth], w is [outWidth, inWidth]. */
export function matmulTransposed(
  x: Float64Array,
  w: Float64Array,
  inWidth: number,
  outWidth: number,
): Float64Array {
  const rows = x.length / inWidth;
  const y = new Float64Array(rows * outWidth);
  for (let t = 0; t < rows; t++) {
    for (let o = 0; o < outWidth; o++) {
      let sum = 0;
      for (let i = 0; i < inWidth; i++) sum += at(x, t * inWidth + i) * at(w, o * inWidth + i);
      y[t * outWidth + o] = sum;
    }
  }
  return y;
}

function linearForward(x: Float64Array, linear: Linear): LinearTrace {
  const { inWidth, outWidth, bias, lora } = linear;
  const rows = x.length / inWidth;
  const y = matmulTransposed(x, linear.weight, inWidth, outWidth);
  if (bias !== undefined) {
    for (let i = 0; i < y.length; i++) y[i] = at(y, i) + at(bias, i % outWidth);
  }
  if (lora === undefined) return { x, down: new Float64Array(0), y };
  const down = matmulTransposed(x, lora.a, inWidth, lora.rank);
  const up = matmulTransposed(down, lora.b, lora.rank, outWidth);
  for (let i = 0; i < rows * outWidth; i++) y[i] = at(y, i) + lora.scale * at(up, i);
  return { x, down, y };
}

/** RMSNorm (arXiv:1910.07467) over rows of `weight.length`: y = w * x / sqrt(mean(x^2) + epsilon). */
export function rmsNorm(x: Float64Array, weight: Float64Array, epsilon: number): Float64Array {
  const width = weight.length;
  const y = new Float64Array(x.length);
  for (let start = 0; start < x.length; start += width) {
    let squares = 0;
    for (let i = 0; i < width; i++) squares += at(x, start + i) ** 2;
    const inverse = 1 / Math.sqrt(squares / width + epsilon);
    for (let i = 0; i < width; i++) y[start + i] = at(weight, i) * at(x, start + i) * inverse;
  }
  return y;
}

/**
 * The angle per position of each pair of channels, [E/2]: theta^(-2i/E) (RoFormer, arXiv:2104.09864, §3.2.2), with the
 * scaling of Llama 3.1 where asked (meta-llama/llama-models, models/llama3/model.py, apply_scaling); a factor alone divides.
 */
export function ropeFrequencies(
  headWidth: number,
  theta: number,
  scaling?: Llama3Scaling | { readonly factor: number },
): Float64Array {
  const frequencies = new Float64Array(headWidth / 2);
  for (let i = 0; i < frequencies.length; i++) {
    const plain = theta ** ((-2 * i) / headWidth);
    if (scaling === undefined || !("originalLength" in scaling)) {
      frequencies[i] = plain / (scaling?.factor ?? 1);
      continue;
    }
    // How often the pair turns within the original context: fast pairs stay, slow pairs are divided by the factor.
    const turns = (scaling.originalLength * plain) / (2 * Math.PI);
    if (turns > scaling.highFrequencyFactor) frequencies[i] = plain;
    else if (turns < scaling.lowFrequencyFactor) frequencies[i] = plain / scaling.factor;
    else {
      const span = scaling.highFrequencyFactor - scaling.lowFrequencyFactor;
      const smooth = (turns - scaling.lowFrequencyFactor) / span;
      frequencies[i] = (1 - smooth) * (plain / scaling.factor) + smooth * plain;
    }
  }
  return frequencies;
}

/**
 * Rotates channel i with channel i + E/2 ("rotate half") of every head in x [T, heads, E] by position * frequency.
 * `direction` -1 turns back, which is the transpose and so the backward pass.
 */
export function rotate(
  x: Float64Array,
  heads: number,
  frequencies: Float64Array,
  direction: 1 | -1,
): Float64Array {
  const half = frequencies.length;
  const headWidth = 2 * half;
  const y = new Float64Array(x.length);
  for (let row = 0; row < x.length / headWidth; row++) {
    const position = Math.floor(row / heads);
    for (let i = 0; i < half; i++) {
      const angle = direction * position * at(frequencies, i);
      const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
      const first = at(x, row * headWidth + i);
      const second = at(x, row * headWidth + half + i);
      y[row * headWidth + i] = first * cos - second * sin;
      y[row * headWidth + half + i] = second * cos + first * sin;
    }
  }
  return y;
}

/** The first token that token t sees. */
export function firstSeen(t: number, window: number): number {
  return Math.max(0, t - window + 1);
}

/** Causal softmax(q k^T / sqrt(scalar)) per query head; query head h reads key/value head floor(h / (H/K)). */
function attend(
  model: Decoder,
  { window }: Layer,
  query: Float64Array,
  key: Float64Array,
  value: Float64Array,
  tokens: number,
) {
  const { heads: H, keyValueHeads: K, headWidth: E, scoreScalar } = model;
  const probabilities = new Float64Array(H * tokens * tokens);
  const mixed = new Float64Array(tokens * H * E);
  for (let h = 0; h < H; h++) {
    const k = Math.floor(h / (H / K));
    for (let t = 0; t < tokens; t++) {
      const row = (h * tokens + t) * tokens;
      let largest = -Infinity;
      const first = firstSeen(t, window);
      for (let s = first; s <= t; s++) {
        let dot = 0;
        for (let e = 0; e < E; e++) dot += at(query, (t * H + h) * E + e) * at(key, (s * K + k) * E + e);
        probabilities[row + s] = dot / Math.sqrt(scoreScalar);
        largest = Math.max(largest, at(probabilities, row + s));
      }
      let total = 0;
      for (let s = first; s <= t; s++) {
        probabilities[row + s] = Math.exp(at(probabilities, row + s) - largest);
        total += at(probabilities, row + s);
      }
      for (let s = first; s <= t; s++) {
        const p = at(probabilities, row + s) / total;
        probabilities[row + s] = p;
        for (let e = 0; e < E; e++) {
          const out = (t * H + h) * E + e;
          mixed[out] = at(mixed, out) + p * at(value, (s * K + k) * E + e);
        }
      }
    }
  }
  return { probabilities, mixed };
}

/** a + b, element by element. */
export function sum(a: Float64Array, b: Float64Array): Float64Array {
  return a.map((x, i) => x + at(b, i));
}

function layerForward(model: Decoder, layer: Layer, x: Float64Array) {
  const { width: D, heads: H, keyValueHeads: K, normEpsilon } = model;
  const { linears, frequencies } = layer;
  const normedBy = (y: Float64Array, weight: Float64Array | undefined) =>
    weight === undefined ? y : rmsNorm(y, weight, normEpsilon);
  const normed = rmsNorm(x, layer.inputNorm, normEpsilon);
  const q = linearForward(normed, linears["self_attn.q_proj"]);
  const k = linearForward(normed, linears["self_attn.k_proj"]);
  const v = linearForward(normed, linears["self_attn.v_proj"]);
  const queryNormed = layer.queryNorm === undefined ? q.y : rmsNorm(q.y, layer.queryNorm, normEpsilon);
  const keyNormed = layer.keyNorm === undefined ? k.y : rmsNorm(k.y, layer.keyNorm, normEpsilon);
  const query = rotate(queryNormed, H, frequencies, 1);
  const key = rotate(keyNormed, K, frequencies, 1);
  const { probabilities, mixed } = attend(model, layer, query, key, v.y, x.length / D);
  const o = linearForward(mixed, linears["self_attn.o_proj"]);
  const mlpInput = sum(x, normedBy(o.y, layer.attentionOutputNorm));
  const mlpNormed = rmsNorm(mlpInput, layer.mlpNorm, normEpsilon);
  const gate = linearForward(mlpNormed, linears["mlp.gate_proj"]);
  const up = linearForward(mlpNormed, linears["mlp.up_proj"]);
  const gated = gate.y.map((g, i) => model.gate.value(g) * at(up.y, i));
  const down = linearForward(gated, linears["mlp.down_proj"]);
  const trace: LayerTrace = {
    attentionInput: x,
    mlpInput,
    linears: {
      "self_attn.q_proj": q,
      "self_attn.k_proj": k,
      "self_attn.v_proj": v,
      "self_attn.o_proj": o,
      "mlp.gate_proj": gate,
      "mlp.up_proj": up,
      "mlp.down_proj": down,
    },
    query,
    key,
    probabilities,
  };
  return { trace, y: sum(mlpInput, normedBy(down.y, layer.mlpOutputNorm)) };
}

/** Runs one sequence and keeps what the backward pass needs. */
export function forward(model: Decoder, tokens: readonly number[]): Trace {
  const { width: D } = model;
  const embedded = new Float64Array(tokens.length * D);
  tokens.forEach((token, t) => embedded.set(model.embedding.subarray(token * D, (token + 1) * D), t * D));
  let x: Float64Array = embedded.map((value) => value * model.embeddingScale);
  const layers: LayerTrace[] = [];
  for (const layer of model.layers) {
    const { trace, y } = layerForward(model, layer, x);
    layers.push(trace);
    x = y;
  }
  const normed = rmsNorm(x, model.finalNorm, model.normEpsilon);
  return { layers, finalInput: x, logits: matmulTransposed(normed, model.head, D, model.vocabulary) };
}

/** Logits of one sequence, [T, V]. */
export function logits(model: Decoder, tokens: readonly number[]): Float64Array {
  return forward(model, tokens).logits;
}

/** ln softmax of row `t` of logits [T, V]. */
export function logSoftmaxRow(values: Float64Array, t: number, vocabulary: number): Float64Array {
  const row = values.slice(t * vocabulary, (t + 1) * vocabulary);
  const largest = row.reduce((a, b) => Math.max(a, b), -Infinity);
  const logTotal = Math.log(row.reduce((total, value) => total + Math.exp(value - largest), 0));
  return row.map((value) => value - largest - logTotal);
}

/** The number of supervised tokens in a batch; the divisor of its loss. */
export function countSupervised(batch: readonly Sequence[]): number {
  return batch.reduce((total, { mask }) => total + mask.filter((m) => m === 1).length, 0);
}

/** Nats per supervised token: the sum of -ln p over the whole batch divided by its number of supervised tokens. */
export function loss(model: Decoder, batch: readonly Sequence[]): number {
  let total = 0;
  for (const { tokens, mask } of batch) {
    const values = logits(model, tokens);
    tokens.forEach((token, i) => {
      if (mask[i] === 1) total -= at(logSoftmaxRow(values, i - 1, model.vocabulary), token);
    });
  }
  return total / countSupervised(batch);
}
