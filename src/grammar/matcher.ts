// Follows a program byte by byte, all ways at once. What is reached is a set of instructions, each with the calls around it; sets
// and calls are kept once and numbered, and so is where each byte leads, so that a way that was gone before is a look-up.
import type { Instruction, Program } from "./program.ts";

/** No way on. */
export const DEAD = 1;
const UNKNOWN = 0;

/** A frame: the instruction a rule returns to, and for a repetition its passed rounds. Below the outermost rule there is none. */
type Frame = number;
const OUTERMOST: Frame = -1;

/** All calls that may lie around an instruction: frames, each with the calls around it. */
interface Calls {
  /** Ascending. */
  frames: readonly Frame[];
  around: readonly number[];
}

interface State {
  /** Instructions that read a byte, ascending. */
  instructions: readonly number[];
  calls: readonly number[];
  isEnd: boolean;
}

export class Matcher {
  readonly #program: Program;
  readonly #instructions: readonly Instruction[];
  /** Where rounds are so far from a repetition's bounds that this many bytes cannot tell them apart, masks are shared. */
  readonly #horizonBytes: number;
  /** Bytes that no instruction tells apart. */
  readonly #classes: Uint8Array;
  readonly #classCount: number;
  readonly #states: State[] = [];
  readonly #stateIds = new Map<string, number>();
  readonly #calls: Calls[] = [];
  readonly #callIds = new Map<string, number>();
  readonly #unions = new Map<string, number>();
  /** By calls: the same with rounds that stand for all like them. */
  readonly #likeCalls: number[] = [];
  readonly #likeStates = new Map<number, number>();
  #steps = new Int32Array(0);
  #size = 0;
  readonly start: number;

  constructor(program: Program, horizonBytes: number) {
    this.#program = program;
    this.#instructions = program.instructions;
    this.#horizonBytes = horizonBytes;
    this.#classes = byteClasses(program.instructions);
    this.#classCount = (this.#classes[255] ?? 0) + 1;
    const none: State = { instructions: [], calls: [], isEnd: false };
    // The numbers of UNKNOWN and DEAD.
    this.#states.push(none, none);
    this.#calls.push({ frames: [OUTERMOST], around: [0] });
    this.#callIds.set(`${OUTERMOST} 0`, 0);
    this.#likeCalls.push(0);
    this.start = this.#reach([[program.start, 0]]);
  }

  /** What is remembered: instructions and frames over all states and calls. */
  get size(): number {
    return this.#size + this.#unions.size;
  }

  step(state: number, byte: number): number {
    const at = state * this.#classCount + (this.#classes[byte] ?? 0);
    const known = this.#steps[at] ?? UNKNOWN;
    return known === UNKNOWN ? this.#firstStep(state, byte, at) : known;
  }

  /** Whether the text may end here. */
  isEnd(state: number): boolean {
    return this.#states[state]?.isEnd === true;
  }

  /** The state that stands for all from which the same texts of `horizonBytes` lead on. */
  like(state: number): number {
    const known = this.#likeStates.get(state);
    if (known !== undefined) return known;
    const { instructions, calls, isEnd } = this.#stateAt(state);
    const like = this.#intern(
      instructions,
      calls.map((each) => this.#likeCalls[each] ?? each),
      isEnd,
    );
    this.#likeStates.set(state, like);
    return like;
  }

  /** A matcher of the same program that remembers nothing. */
  emptied(): Matcher {
    return new Matcher(this.#program, this.#horizonBytes);
  }

  /** A state of another matcher of the same program in this one. */
  adopt(state: number, { of }: { of: Matcher }): number {
    const { instructions, calls, isEnd } = of.#stateAt(state);
    const needed = new Set<number>();
    const queue = [...calls];
    for (let at = queue.pop(); at !== undefined; at = queue.pop()) {
      if (needed.has(at)) continue;
      needed.add(at);
      queue.push(...(of.#calls[at]?.around ?? []));
    }
    // Calls are numbered after those around them; the outermost is 0 everywhere.
    const copies = new Map([[0, 0]]);
    const copy = (each: number): number => copies.get(each) ?? 0;
    for (const at of [...needed].sort((a, b) => a - b)) {
      const { frames = [], around = [] } = of.#calls[at] ?? {};
      if (at > 0) copies.set(at, this.#internCalls(frames, around.map(copy)));
    }
    return this.#intern(instructions, calls.map(copy), isEnd);
  }

  #firstStep(state: number, byte: number, at: number): number {
    const { instructions, calls } = this.#stateAt(state);
    const reached: [number, number][] = [];
    for (const [i, instruction] of instructions.entries()) {
      const reader = this.#instructions[instruction];
      if (reader?.op !== "bytes") continue;
      for (const [first, last, target] of reader.edges) {
        if (first <= byte && byte <= last) reached.push([target, calls[i] ?? 0]);
      }
    }
    const next = this.#reach(reached);
    this.#steps[at] = next;
    return next;
  }

  /** Goes on until every way reads a byte or is at the end. */
  #reach(queue: [instruction: number, calls: number][]): number {
    const reached = new Map<number, number>();
    let isEnd = false;
    for (let way = queue.pop(); way !== undefined; way = queue.pop()) {
      const [at] = way;
      const known = reached.get(at);
      const calls = known === undefined ? way[1] : this.#union(known, way[1]);
      if (calls === known) continue;
      reached.set(at, calls);
      const instruction = this.#instructions[at];
      switch (instruction?.op) {
        case "choice":
          for (const target of instruction.targets) queue.push([target, calls]);
          break;
        case "call":
          queue.push([instruction.rule, this.#called(instruction.next, calls)]);
          break;
        case "repeat":
          if (instruction.least === 0) queue.push([instruction.next, calls]);
          if (instruction.most !== 0)
            queue.push([instruction.first, this.#around(this.#frame(at, 0), calls)]);
          break;
        case "return":
          if (this.#return(calls, queue)) isEnd = true;
          break;
        case "bytes":
        case undefined:
      }
    }
    const readers = [...reached.keys()].filter((at) => this.#instructions[at]?.op === "bytes");
    readers.sort((a, b) => a - b);
    if (readers.length === 0 && !isEnd) return DEAD;
    return this.#intern(
      readers,
      readers.map((at) => reached.get(at) ?? 0),
      isEnd,
    );
  }

  /** True where the outermost rule ends. */
  #return(calls: number, queue: [number, number][]): boolean {
    const { frames = [], around = [] } = this.#calls[calls] ?? {};
    let isEnd = false;
    for (const [i, frame] of frames.entries()) {
      const outer = around[i] ?? 0;
      if (frame === OUTERMOST) {
        isEnd = true;
        continue;
      }
      const at = frame % this.#instructions.length;
      const rounds = Math.floor(frame / this.#instructions.length);
      const instruction = this.#instructions[at];
      if (rounds === 0 || instruction?.op !== "repeat") {
        queue.push([at, outer]);
        continue;
      }
      const { rest, least, most, next } = instruction;
      if (rounds >= least) queue.push([next, outer]);
      if (most !== null && rounds >= most) continue;
      const passed = most === null ? Math.min(rounds, least) : rounds;
      queue.push([rest, this.#around(this.#frame(at, passed), outer)]);
    }
    return isEnd;
  }

  /** The frame of a repetition in the round after so many; those of calls are below. */
  #frame(instruction: number, passed: number): Frame {
    return instruction + (passed + 1) * this.#instructions.length;
  }

  /** A call as the last thing of a rule needs no frame: its end is the rule's. */
  #called(next: number, calls: number): number {
    return this.#instructions[next]?.op === "return" ? calls : this.#around(next, calls);
  }

  #around(frame: Frame, calls: number): number {
    return this.#internCalls([frame], [calls]);
  }

  #internCalls(frames: readonly Frame[], around: readonly number[]): number {
    const key = frames.map((frame, i) => `${frame} ${around[i]}`).join();
    const known = this.#callIds.get(key);
    if (known !== undefined) return known;
    const id = this.#calls.push({ frames, around }) - 1;
    this.#size += 1 + frames.length;
    this.#callIds.set(key, id);
    this.#likeCalls.push(id);
    const like = frames
      .map((frame, i) => this.#around(this.#likeFrame(frame), this.#likeCalls[around[i] ?? 0] ?? 0))
      .reduce((all, each) => this.#union(all, each));
    this.#likeCalls[id] = like;
    return id;
  }

  #likeFrame(frame: Frame): Frame {
    if (frame === OUTERMOST) return frame;
    const at = frame % this.#instructions.length;
    const passed = Math.floor(frame / this.#instructions.length) - 1;
    const instruction = this.#instructions[at];
    if (passed < 0 || instruction?.op !== "repeat") return frame;
    const { least, most } = instruction;
    const isFar = (bound: number | null): boolean => bound === null || passed + this.#horizonBytes < bound;
    if (!isFar(most)) return frame;
    if (isFar(least)) return this.#frame(at, 0);
    return passed >= least ? this.#frame(at, least) : frame;
  }

  #union(a: number, b: number): number {
    if (a === b) return a;
    const key = a < b ? `${a} ${b}` : `${b} ${a}`;
    const known = this.#unions.get(key);
    if (known !== undefined) return known;
    const merged = new Map<Frame, number>();
    for (const each of [a, b]) {
      const { frames = [], around = [] } = this.#calls[each] ?? {};
      for (const [i, frame] of frames.entries()) {
        const outer = around[i] ?? 0;
        const other = merged.get(frame);
        merged.set(frame, other === undefined ? outer : this.#union(other, outer));
      }
    }
    const frames = [...merged.keys()].sort((x, y) => x - y);
    const union = this.#internCalls(
      frames,
      frames.map((frame) => merged.get(frame) ?? 0),
    );
    this.#unions.set(key, union);
    return union;
  }

  #intern(instructions: readonly number[], calls: readonly number[], isEnd: boolean): number {
    const key = `${isEnd ? "." : ""}${instructions.map((at, i) => `${at} ${calls[i]}`).join()}`;
    const known = this.#stateIds.get(key);
    if (known !== undefined) return known;
    const id = this.#states.push({ instructions, calls, isEnd }) - 1;
    this.#size += 1 + instructions.length;
    this.#stateIds.set(key, id);
    const needed = this.#states.length * this.#classCount;
    if (needed > this.#steps.length) {
      const grown = new Int32Array(Math.max(2 * needed, 1024));
      grown.set(this.#steps);
      // DEAD leads nowhere.
      grown.fill(DEAD, DEAD * this.#classCount, (DEAD + 1) * this.#classCount);
      this.#steps = grown;
    }
    return id;
  }

  #stateAt(state: number): State {
    const found = this.#states[state];
    if (found === undefined) throw new Error(`internal: the grammar has no state ${state}`);
    return found;
  }
}

function byteClasses(instructions: readonly Instruction[]): Uint8Array {
  const isCut = new Uint8Array(257);
  for (const instruction of instructions) {
    if (instruction.op !== "bytes") continue;
    for (const [first, last] of instruction.edges) {
      isCut[first] = 1;
      isCut[last + 1] = 1;
    }
  }
  let current = 0;
  return Uint8Array.from({ length: 256 }, (_, byte) => (byte > 0 && isCut[byte] === 1 ? ++current : current));
}
