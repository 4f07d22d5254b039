/**
 * Computes experts whose weights come from a store.
 * @module
 */
import { encodeModel, compile, lower, type Program, type RuntimeOptions } from '../../runtime/index.js';
import type { ExpertLease, ExpertStore } from '../store/expert-store.js';
import { combineColumns, gatherColumns } from './expert-columns.js';
import { columnsInput, expertColumns, type ExpertWidths } from './expert-network.js';
import { groupChoices, type GroupedChoices } from './grouped-choices.js';
import type { LayerOfExperts } from './layers-of-experts.js';
import { TokenProgram } from './token-program.js';

/** A router's decision, with what its experts read. */
export interface ExpertWork {
  /** Index of the layer in the store. */
  readonly layer: number;
  readonly topK: number;
  /** `[tokens, width]` */
  readonly rows: Float32Array;
  /** `[tokens, topK]`; −1 is no choice. */
  readonly experts: Int32Array;
  /** `[tokens, topK]` */
  readonly gates: Float32Array;
}

/** A layer of experts, and how wide they are. */
export interface SizedLayer extends LayerOfExperts, ExpertWidths {}

/** Experts that are asked for while one is computed. */
const MOST_AHEAD = 8;

/** Acquires experts of the layer that is run. */
type Acquire = (experts: readonly number[]) => Promise<readonly ExpertLease[]>;

/** The program of experts of one shape. */
interface ShapeProgram {
  readonly program: Program;
  /** The same for all experts of a single token, by how many they are; compiled when first needed. */
  readonly ofToken: Map<number, Promise<TokenProgram>>;
}

/**
 * Runs every expert on its rows with one program for each shape of expert, which is fed the weights where the store has
 * them. Each choice's output is kept, and a token's are added in the order of its choices: what comes out does not depend
 * on which experts were in memory, nor on how many are at a time. A single token whose experts are all in memory goes
 * through them in one program, with the same bits. Experts that come with a program of their own (`ExpertLease.run`) are run
 * by that.
 */
export class ExpertRunner {
  private columns = new Float32Array(0);
  private outputs = new Float32Array(0);
  /** Of one expert for one token. */
  private output = new Float32Array(0);

  private constructor(
    private readonly store: ExpertStore,
    private readonly layers: readonly SizedLayer[],
    /** Of each layer; layers of equal shape have the same. */
    private readonly programs: ShapeProgram[],
    private readonly runtime: RuntimeOptions,
  ) {}

  /** Compiles the programs of all layers, which are those of the store. */
  static async open(
    store: ExpertStore,
    layers: readonly SizedLayer[],
    runtime: RuntimeOptions = {},
  ): Promise<ExpertRunner> {
    const compiled = new Map<string, ShapeProgram>();
    const programs: ShapeProgram[] = [];
    for (const [index, { bank, width }] of layers.entries()) {
      const output = expertColumns(bank, store.layers[index], columnsInput(width, 'tokens'));
      // Layers of equal experts have equal graphs.
      const key = Buffer.from(encodeModel(lower({ output }).graph)).toString('base64');
      const program = compiled.get(key) ?? {
        program: await compile({ output }, runtime),
        ofToken: new Map(),
      };
      compiled.set(key, program);
      programs.push(program);
    }
    return new ExpertRunner(store, layers, programs, runtime);
  }

  /**
   * Computes `Σ_k gates[t, k] · expert_{experts[t, k]}(rows[t])`; zeros for tokens without a choice.
   * @param into `[tokens, outputWidth]`
   * @param announced called as soon as the store knows what is needed, before anything is computed
   */
  async run(
    work: ExpertWork,
    into: Float32Array,
    announced: (distinct: readonly number[]) => void = () => undefined,
  ): Promise<void> {
    const { layer, experts } = work;
    const grouped = groupChoices(experts, this.store.layers[layer].numExperts);
    const resident = this.store.announce(layer, grouped.experts);
    const unasked = new Set(grouped.experts);
    const acquire: Acquire = (wanted) => {
      for (const expert of wanted) unasked.delete(expert);
      return this.store.acquire(layer, wanted);
    };
    try {
      announced(grouped.experts);
      if (resident.every(Boolean) && this.isOneToken(work)) await this.runToken(work, acquire, into);
      else await this.runGrouped(work, grouped, resident, acquire, into);
    } finally {
      this.store.withdraw(layer, [...unasked]);
    }
  }

  private async runGrouped(
    { layer, topK, rows, gates }: ExpertWork,
    grouped: GroupedChoices,
    resident: readonly boolean[],
    acquire: Acquire,
    into: Float32Array,
  ): Promise<void> {
    const { width, outputWidth } = this.layers[layer];
    this.reserve(grouped.choices.length, this.layers[layer]);
    gatherColumns(rows, grouped, topK, width, this.columns);
    // What is in memory is computed while the rest is on its way.
    const indices = grouped.experts.map((_, index) => index);
    const ready = indices.filter((index) => resident[index]);
    for (let at = 0; at < ready.length; at += this.store.maxPinned)
      await this.runPart(acquire, grouped, ready.slice(at, at + this.store.maxPinned));
    const missing = indices.filter((index) => !resident[index]);
    await this.runArriving(acquire, grouped, missing);
    combineColumns(this.outputs, grouped, gates, topK, outputWidth, into);
  }

  /** Frees the sessions; the store stays open. */
  async release(): Promise<void> {
    const programs = new Set(this.programs.splice(0));
    for (const { program, ofToken } of programs) {
      await program.release();
      for (const opened of ofToken.values()) await (await opened).release();
    }
  }

  /** Whether there is one token with all of its choices, and the store can lend all of their experts at once. */
  private isOneToken({ topK, experts }: ExpertWork): boolean {
    return experts.length === topK && topK <= this.store.maxPinned && experts.every((expert) => expert >= 0);
  }

  /** Runs a single token's experts, in one program unless they have their own. */
  private async runToken(
    { layer, topK, rows, experts, gates }: ExpertWork,
    acquire: Acquire,
    into: Float32Array,
  ): Promise<void> {
    const leases = await acquire([...experts]);
    try {
      if (leases.every(({ run }) => !run)) {
        const program = await this.tokenProgram(layer, topK);
        await program.run(leases, gates, rows, into);
        return;
      }
      for (const [choice, { run }] of leases.entries()) {
        this.output = this.output.length === into.length ? this.output : new Float32Array(into.length);
        await run!(rows, this.output, 1);
        addWeighted(into, this.output, gates[choice], choice === 0);
      }
    } finally {
      for (const lease of leases) lease.release();
    }
  }

  private tokenProgram(layer: number, topK: number): Promise<TokenProgram> {
    const { ofToken } = this.programs[layer];
    const known = ofToken.get(topK);
    if (known) return known;
    const sized = this.layers[layer];
    const opened = TokenProgram.open(sized.bank, this.store.layers[layer], topK, sized, this.runtime);
    ofToken.set(topK, opened);
    opened.catch(() => ofToken.delete(topK));
    return opened;
  }

  private async runPart(
    acquire: Acquire,
    grouped: GroupedChoices,
    indices: readonly number[],
  ): Promise<void> {
    const leases = await acquire(indices.map((index) => grouped.experts[index]));
    try {
      for (const [at, index] of indices.entries()) {
        await this.runExpert(leases[at], grouped, index);
        leases[at].release();
      }
    } finally {
      for (const lease of leases) lease.release();
    }
  }

  /** Runs experts one by one while the next ones are being read. */
  private async runArriving(
    acquire: Acquire,
    grouped: GroupedChoices,
    indices: readonly number[],
  ): Promise<void> {
    const waiting: Promise<readonly ExpertLease[]>[] = [];
    const ahead = Math.min(MOST_AHEAD, this.store.maxPinned - 1);
    let asked = 0;
    const ask = (most: number): void => {
      for (; asked < indices.length && waiting.length < most; asked++) {
        const lease = acquire([grouped.experts[indices[asked]]]);
        // Awaited below, perhaps after it has failed.
        lease.catch(() => undefined);
        waiting.push(lease);
      }
    };
    try {
      for (const index of indices) {
        ask(ahead + 1);
        const [lease] = await waiting.shift()!;
        try {
          ask(ahead);
          await this.runExpert(lease, grouped, index);
        } finally {
          lease.release();
        }
      }
    } finally {
      for (const others of await Promise.allSettled(waiting))
        if (others.status === 'fulfilled') for (const lease of others.value) lease.release();
    }
  }

  private async runExpert(lease: ExpertLease, { starts }: GroupedChoices, index: number): Promise<void> {
    const { width, outputWidth } = this.layers[lease.layer];
    const { program } = this.programs[lease.layer];
    const [from, to] = [starts[index], starts[index + 1]];
    const columns = this.columns.subarray(from * width, to * width);
    if (lease.run) {
      await lease.run(columns, this.outputs.subarray(from * outputWidth, to * outputWidth), to - from);
      return;
    }
    program.bindOutput('output', this.outputs.subarray(from * outputWidth, to * outputWidth));
    await program.run({ columns, ...lease.weights });
  }

  /** Makes room for columns and outputs. */
  private reserve(rows: number, { width, outputWidth }: ExpertWidths): void {
    if (this.columns.length < rows * width) this.columns = new Float32Array(rows * width);
    if (this.outputs.length < rows * outputWidth) this.outputs = new Float32Array(rows * outputWidth);
  }
}

/** Adds one expert's output for one token. The first is taken as it is: 0 + (−0) would be another number than −0. */
function addWeighted(into: Float32Array, output: Float32Array, gate: number, isFirst: boolean): void {
  for (let i = 0; i < into.length; i++) {
    const term = Math.fround(gate * output[i]);
    into[i] = isFirst ? term : into[i] + term;
  }
}
