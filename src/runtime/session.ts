// ONNX bytes in, a callable session out. The only file that knows onnxruntime-node, so that the engine under it can be
// swapped. `run` computes on the calling thread: the event loop stands still until it returns (onnxruntime-node 1.30), and
// it cannot be cancelled; callers yield and look at their AbortSignal between runs.
import * as ort from "onnxruntime-node";
import type { HostTensor, TensorDataType } from "./tensor.ts";

export type Feeds = Readonly<Record<string, HostTensor>>;
export type Fetches = Readonly<Record<string, HostTensor<"float32">>>;

export interface Session {
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[];
  /**
   * Feeds are read in place. Fetches are fresh copies that the caller owns. Every node runs, whatever is fetched. Feeds the
   * model has no input for are passed over, so that one set of feeds can serve a forward and a backward session.
   */
  run(feeds: Feeds): Promise<Fetches>;
  release(): Promise<void>;
}

export interface SessionOptions {
  /** Threads that share one operator's work, the calling thread among them. */
  threads: number;
  /**
   * Where tensors between nodes live. "arena" (the default) keeps and reuses memory of its own: quick for the same small shapes
   * again and again. "system" asks the C library each time: sessions share what they free, and shapes that change from run to
   * run leave no holes; an arena took twice the memory in training.
   */
  memory?: "arena" | "system";
}

/** Of ONNX Runtime. */
export function runtimeVersion(): string {
  return ort.env.versions.node ?? ort.env.versions.common;
}

/** Loads a model on the CPU. */
export async function createSession(
  model: Uint8Array,
  { threads, memory = "arena" }: SessionOptions,
): Promise<Session> {
  const session = await ort.InferenceSession.create(model, {
    executionProviders: ["cpu"],
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    graphOptimizationLevel: "all",
    enableCpuMemArena: memory === "arena",
    enableMemPattern: memory === "arena",
    // Warnings about dimensions that only the run knows help nobody.
    logSeverityLevel: 3,
    extra: {
      session: {
        // Subnormal numbers slow multiplication a hundredfold and carry nothing.
        set_denormal_as_zero: "1",
        // Idle sessions would otherwise burn a core waiting for work.
        intra_op: { allow_spinning: "0" },
      },
    },
  });
  const inputNames = session.inputNames;
  return {
    inputNames,
    outputNames: session.outputNames,
    async run(feeds) {
      const given: Record<string, ort.Tensor> = {};
      for (const name of inputNames) {
        const tensor = feeds[name];
        if (tensor === undefined) throw new Error(`internal: the session needs input ${name}`);
        given[name] = toOrt(tensor);
      }
      const results = await session.run(given);
      const fetches: Record<string, HostTensor<"float32">> = {};
      for (const [name, result] of Object.entries(results)) {
        if (!(result.data instanceof Float32Array))
          throw new Error(`internal: output ${name} is ${result.type}`);
        fetches[name] = { dtype: "float32", shape: result.dims, data: result.data };
      }
      return fetches;
    },
    release: () => session.release(),
  };
}

/** Wrapping a weight costs more than running a tiny node; weights are wrapped once and live as long as their host tensor. */
const wrapped = new WeakMap<HostTensor, ort.Tensor>();

function toOrt(tensor: HostTensor<TensorDataType>): ort.Tensor {
  let result = wrapped.get(tensor);
  if (result === undefined) {
    result = new ort.Tensor(tensor.dtype, tensor.data, tensor.shape);
    wrapped.set(tensor, result);
  }
  return result;
}
