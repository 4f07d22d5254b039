/**
 * Computes experts whose weights come from a store.
 * @module
 */
import { encodeModel, compile, lower, type Program, type RuntimeOptions } from '../../runtime/index.js';
import type { ExpertLease, ExpertStore } from '../store/expert-store.js';
import { columnsInput, expertColumns, type ExpertWidths } from './expert-network.js';
import { groupChoices, type GroupedChoices } from './grouped-choices.js';
import type { LayerOfExperts } from './layers-of-experts.js';

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

/**
 * Runs every expert on its rows with one program for each shape of expert, which is fed the weights where the store has
 * them. Each choice's output is kept, and a token's are added in the order of its choices: what comes out does not depend
 * on which experts were in memory, nor on how many are at a time.
 */
export class ExpertRunner {
  private columns = new Float32Array(0);
  private outputs = new Float32Array(0);

  private constructor(
    private readonly store: ExpertStore,
    private readonly layers: readonly SizedLayer[],
    /** Of each layer; layers of equal shape have the same. */
    private readonly programs: Program[],
  ) {}

  /** Compiles the programs of all layers, which are those of the store. */
  static async open(
    store: ExpertStore,
    layers: readonly SizedLayer[],
    runtime: RuntimeOptions = {},
  ): Promise<ExpertRunner> {
    const compiled = new Map<string, Program>();
    const programs: Program[] = [];
    for (const [index, { bank, width }] of layers.entries()) {
      const output = expertColumns(bank, store.layers[index], columnsInput(width, 'tokens'));
      // Layers of equal experts have equal graphs.
      const key = Buffer.from(encodeModel(lower({ output }).graph)).toString('base64');
      const program = compiled.get(key) ?? (await compile({ output }, runtime));
      compiled.set(key, program);
      programs.push(program);
    }
    return new ExpertRunner(store, layers, programs);
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
    announced(grouped.experts);
    this.gather(work, grouped);
    // What is in memory is computed while the rest is on its way.
    const indices = grouped.experts.map((_, index) => index);
    const ready = indices.filter((index) => resident[index]);
    for (let at = 0; at < ready.length; at += this.store.maxPinned)
      await this.runPart(layer, grouped, ready.slice(at, at + this.store.maxPinned));
    for (const index of indices) if (!resident[index]) await this.runPart(layer, grouped, [index]);
    combine(this.outputs, grouped, work, this.layers[layer].outputWidth, into);
  }

  /** Frees the sessions; the store stays open. */
  async release(): Promise<void> {
    const programs = new Set(this.programs.splice(0));
    for (const program of programs) await program.release();
  }

  private async runPart(layer: number, grouped: GroupedChoices, indices: readonly number[]): Promise<void> {
    const leases = await this.store.acquire(
      layer,
      indices.map((index) => grouped.experts[index]),
    );
    try {
      for (const [at, index] of indices.entries()) await this.runExpert(leases[at], grouped, index);
    } finally {
      for (const lease of leases) lease.release();
    }
  }

  private async runExpert(lease: ExpertLease, { starts }: GroupedChoices, index: number): Promise<void> {
    const { width, outputWidth } = this.layers[lease.layer];
    const program = this.programs[lease.layer];
    const [from, to] = [starts[index], starts[index + 1]];
    program.bindOutput('output', this.outputs.subarray(from * outputWidth, to * outputWidth));
    await program.run({ columns: this.columns.subarray(from * width, to * width), ...lease.weights });
  }

  /** Copies every token's row to the columns that its experts read: `[width, tokens]`, one expert after another. */
  private gather({ layer, rows, topK }: ExpertWork, { starts, choices }: GroupedChoices): void {
    const { width, outputWidth } = this.layers[layer];
    if (this.columns.length < choices.length * width) this.columns = new Float32Array(choices.length * width);
    if (this.outputs.length < choices.length * outputWidth)
      this.outputs = new Float32Array(choices.length * outputWidth);
    const { columns } = this;
    for (let expert = 0; expert + 1 < starts.length; expert++) {
      const [start, count] = [starts[expert], starts[expert + 1] - starts[expert]];
      for (let column = 0; column < count; column++) {
        const from = Math.floor(choices[start + column] / topK) * width;
        const to = start * width + column;
        for (let i = 0; i < width; i++) columns[to + i * count] = rows[from + i];
      }
    }
  }
}

/** Adds a token's outputs in the order of its choices. */
function combine(
  outputs: Float32Array,
  { starts, rows, places }: GroupedChoices,
  { gates, topK }: ExpertWork,
  width: number,
  into: Float32Array,
): void {
  into.fill(0);
  for (let choice = 0; choice < rows.length; choice++) {
    const row = rows[choice];
    if (row < 0) continue;
    const place = places[choice];
    const [start, count] = [starts[place], starts[place + 1] - starts[place]];
    const [gate, from, to] = [
      gates[choice],
      start * width + (row - start),
      Math.floor(choice / topK) * width,
    ];
    for (let i = 0; i < width; i++) into[to + i] += gate * outputs[from + i * count];
  }
}
