// The oracle's backward pass, written by hand: the gradient of the batch loss for LoRA's A and B at every site.
// Read decoder.ts first; each function here undoes the one there with the same shapes. d-names hold dLoss/dname.
import {
  LINEAR_SITES,
  at as element,
  countSupervised,
  firstSeen,
  forward,
  logSoftmaxRow,
  rotate,
  sum,
} from "./decoder.ts";
import type {
  Decoder,
  Gate,
  Layer,
  LayerTrace,
  Linear,
  LinearSite,
  LinearTrace,
  Sequence,
  Trace,
} from "./decoder.ts";

// vitest reads an imported name through a getter each time; a local one makes the test about five times faster.
const at = element;

/** dLoss/dA [R, in] and dLoss/dB [out, R], by `layers.N.<site>`. */
export type LoraGradients = Map<string, { readonly a: Float64Array; readonly b: Float64Array }>;

/** y[t, i] = sum_o x[t, o] w[o, i]; x is [rows, outWidth], w is [outWidth, inWidth]. */
function matmul(x: Float64Array, w: Float64Array, outWidth: number, inWidth: number): Float64Array {
  const rows = x.length / outWidth;
  const y = new Float64Array(rows * inWidth);
  for (let t = 0; t < rows; t++) {
    for (let o = 0; o < outWidth; o++) {
      for (let i = 0; i < inWidth; i++) {
        y[t * inWidth + i] = at(y, t * inWidth + i) + at(x, t * outWidth + o) * at(w, o * inWidth + i);
      }
    }
  }
  return y;
}

/** into[o, i] += factor * sum_t y[t, o] x[t, i] */
function addOuter(
  into: Float64Array,
  y: Float64Array,
  x: Float64Array,
  outWidth: number,
  factor: number,
): void {
  const rows = y.length / outWidth;
  const inWidth = x.length / rows;
  for (let t = 0; t < rows; t++) {
    for (let o = 0; o < outWidth; o++) {
      for (let i = 0; i < inWidth; i++) {
        const slot = o * inWidth + i;
        into[slot] = at(into, slot) + factor * at(y, t * outWidth + o) * at(x, t * inWidth + i);
      }
    }
  }
}

/**
 * y = x W^T + b + s (x A^T) B^T gives dB = s dy^T (x A^T), dA = s (dy B)^T x and dx = dy W + s (dy B) A.
 * Adds dA and dB to `gradients` and returns dx [T, in].
 */
function linearBackward(
  linear: Linear,
  trace: LinearTrace,
  dy: Float64Array,
  name: string,
  gradients: LoraGradients,
) {
  const { inWidth, outWidth, weight, lora } = linear;
  const dx = matmul(dy, weight, outWidth, inWidth);
  if (lora === undefined) return dx;
  const gradient = gradients.get(name);
  if (gradient === undefined) throw new Error(`no gradient buffer for ${name}`);
  addOuter(gradient.b, dy, trace.down, outWidth, lora.scale);
  const dDown = matmul(dy, lora.b, outWidth, lora.rank).map((value) => lora.scale * value);
  addOuter(gradient.a, dDown, trace.x, lora.rank, 1);
  return sum(dx, matmul(dDown, lora.a, lora.rank, inWidth));
}

/** With r = 1 / sqrt(mean(x^2) + epsilon): dx = r (w dy) - x r^3 mean(w dy x). */
function rmsNormBackward(
  x: Float64Array,
  weight: Float64Array,
  epsilon: number,
  dy: Float64Array,
): Float64Array {
  const width = weight.length;
  const dx = new Float64Array(x.length);
  for (let start = 0; start < x.length; start += width) {
    let squares = 0;
    let projection = 0;
    for (let i = 0; i < width; i++) {
      squares += at(x, start + i) ** 2;
      projection += at(weight, i) * at(dy, start + i) * at(x, start + i);
    }
    const inverse = 1 / Math.sqrt(squares / width + epsilon);
    const along = (inverse ** 3 * projection) / width;
    for (let i = 0; i < width; i++) {
      dx[start + i] = inverse * at(weight, i) * at(dy, start + i) - along * at(x, start + i);
    }
  }
  return dx;
}

/**
 * Backward of causal attention for dMixed [T, H, E]. With scores z = q k^T / sqrt(c), p = softmax(z), y = p v:
 * dv = p^T dy, dp = dy v^T, dz = p (dp - sum_s p dp), dq = dz k / sqrt(c), dk = dz^T q / sqrt(c).
 * Key/value heads collect from every query head that reads them.
 */
function attendBackward(
  model: Decoder,
  { window }: Layer,
  trace: LayerTrace,
  value: Float64Array,
  dMixed: Float64Array,
) {
  const { heads: H, keyValueHeads: K, headWidth: E, scoreScalar } = model;
  const { query, key, probabilities } = trace;
  const tokens = query.length / (H * E);
  const dQuery = new Float64Array(query.length);
  const dKey = new Float64Array(key.length);
  const dValue = new Float64Array(value.length);
  for (let h = 0; h < H; h++) {
    const k = Math.floor(h / (H / K));
    for (let t = 0; t < tokens; t++) {
      const dProbability = new Float64Array(t + 1);
      let mean = 0;
      const first = firstSeen(t, window);
      for (let s = first; s <= t; s++) {
        const p = at(probabilities, (h * tokens + t) * tokens + s);
        for (let e = 0; e < E; e++) {
          const dOut = at(dMixed, (t * H + h) * E + e);
          const slot = (s * K + k) * E + e;
          dProbability[s] = at(dProbability, s) + dOut * at(value, slot);
          dValue[slot] = at(dValue, slot) + p * dOut;
        }
        mean += p * at(dProbability, s);
      }
      for (let s = first; s <= t; s++) {
        const p = at(probabilities, (h * tokens + t) * tokens + s);
        const dDot = (p * (at(dProbability, s) - mean)) / Math.sqrt(scoreScalar);
        for (let e = 0; e < E; e++) {
          const q = (t * H + h) * E + e;
          const slot = (s * K + k) * E + e;
          dQuery[q] = at(dQuery, q) + dDot * at(key, slot);
          dKey[slot] = at(dKey, slot) + dDot * at(query, q);
        }
      }
    }
  }
  return { dQuery, dKey, dValue };
}

/** y = f(g) u: dg = dy u f'(g), du = dy f(g). */
function gatedBackward({ value, slope }: Gate, gate: Float64Array, up: Float64Array, dy: Float64Array) {
  const dGate = new Float64Array(gate.length);
  const dUp = new Float64Array(gate.length);
  for (let i = 0; i < gate.length; i++) {
    const g = at(gate, i);
    dGate[i] = at(dy, i) * at(up, i) * slope(g);
    dUp[i] = at(dy, i) * value(g);
  }
  return { dGate, dUp };
}

/** Takes dy [T, D] of a layer's output to that of its input. */
function layerBackward(
  model: Decoder,
  layer: Layer,
  trace: LayerTrace,
  name: string,
  dy: Float64Array,
  gradients: LoraGradients,
): Float64Array {
  const { heads: H, keyValueHeads: K, normEpsilon } = model;
  const { frequencies } = layer;
  const through = (site: LinearSite, dOut: Float64Array) =>
    linearBackward(layer.linears[site], trace.linears[site], dOut, `${name}.${site}`, gradients);
  const output = (site: LinearSite) => trace.linears[site].y;

  const beforeNorm = (site: LinearSite, weight: Float64Array | undefined, dOut: Float64Array) =>
    weight === undefined ? dOut : rmsNormBackward(output(site), weight, normEpsilon, dOut);

  const dProduct = through("mlp.down_proj", beforeNorm("mlp.down_proj", layer.mlpOutputNorm, dy));
  const { dGate, dUp } = gatedBackward(model.gate, output("mlp.gate_proj"), output("mlp.up_proj"), dProduct);
  const dMlpNormed = sum(through("mlp.gate_proj", dGate), through("mlp.up_proj", dUp));
  const dMlp = sum(dy, rmsNormBackward(trace.mlpInput, layer.mlpNorm, normEpsilon, dMlpNormed));

  const dMixed = through("self_attn.o_proj", beforeNorm("self_attn.o_proj", layer.attentionOutputNorm, dMlp));
  const { dQuery, dKey, dValue } = attendBackward(model, layer, trace, output("self_attn.v_proj"), dMixed);
  let dQ = rotate(dQuery, H, frequencies, -1);
  let dK = rotate(dKey, K, frequencies, -1);
  if (layer.queryNorm !== undefined)
    dQ = rmsNormBackward(output("self_attn.q_proj"), layer.queryNorm, normEpsilon, dQ);
  if (layer.keyNorm !== undefined)
    dK = rmsNormBackward(output("self_attn.k_proj"), layer.keyNorm, normEpsilon, dK);
  const dNormed = sum(
    sum(through("self_attn.q_proj", dQ), through("self_attn.k_proj", dK)),
    through("self_attn.v_proj", dValue),
  );
  return sum(dMlp, rmsNormBackward(trace.attentionInput, layer.inputNorm, normEpsilon, dNormed));
}

/** d(-ln p[token]) / dlogits = softmax - one_hot at each supervised position, times `factor`; [T, V]. */
function lossBackward(model: Decoder, trace: Trace, sequence: Sequence, factor: number): Float64Array {
  const V = model.vocabulary;
  const dLogits = new Float64Array(trace.logits.length);
  sequence.tokens.forEach((token, i) => {
    if (sequence.mask[i] !== 1) return;
    const row = logSoftmaxRow(trace.logits, i - 1, V);
    for (let v = 0; v < V; v++) {
      dLogits[(i - 1) * V + v] = factor * (Math.exp(at(row, v)) - (v === token ? 1 : 0));
    }
  });
  return dLogits;
}

/** The gradient of `loss(model, batch)` for every LoRA matrix of the model. */
export function loraGradients(model: Decoder, batch: readonly Sequence[]): LoraGradients {
  const gradients: LoraGradients = new Map();
  model.layers.forEach((layer, n) => {
    for (const site of LINEAR_SITES) {
      const { lora } = layer.linears[site];
      if (lora === undefined) continue;
      const [a, b] = [new Float64Array(lora.a.length), new Float64Array(lora.b.length)];
      gradients.set(`layers.${n}.${site}`, { a, b });
    }
  });
  const factor = 1 / countSupervised(batch);
  for (const sequence of batch) {
    const trace = forward(model, sequence.tokens);
    const dNormed = matmul(
      lossBackward(model, trace, sequence, factor),
      model.head,
      model.vocabulary,
      model.width,
    );
    let dy = rmsNormBackward(trace.finalInput, model.finalNorm, model.normEpsilon, dNormed);
    for (const [back, layer] of [...model.layers.entries()].reverse()) {
      const layerTrace = trace.layers[back];
      if (layerTrace === undefined) throw new Error(`no trace of layer ${back}`);
      dy = layerBackward(model, layer, layerTrace, `layers.${back}`, dy, gradients);
    }
  }
  return gradients;
}
