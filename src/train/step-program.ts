/**
 * One training step as one program: loss, gradients, and what the sparse layers did.
 * @module
 */
import { gradients as differentiate, type Tensor } from '../graph/index.js';
import type { BatchShape } from '../data/index.js';
import type { LanguageModel } from '../models/index.js';
import { trainingContext, type NoiseInputs, type ParameterArena, type Parameter } from '../nn/index.js';
import { compile, type Buffers, type Program, type RuntimeOptions } from '../runtime/index.js';
import { traceObjective } from './language-modelling.js';

/** What one batch taught. */
export interface BatchReport {
  /** The minimised sum, nats. */
  readonly loss: number;
  /** Nats per token. */
  readonly taskLoss: number;
  /** Auxiliary losses before their coefficients, by name, averaged over layers. */
  readonly auxiliary: Readonly<Record<string, number>>;
  /** `[numExperts]` per sparse layer. */
  readonly loads: readonly Int32Array[];
  /** Choices without a place, over all layers. */
  readonly dropped: number;
}

/** Settings of {@link StepProgram.create}. */
export interface StepProgramOptions {
  readonly shape: BatchShape;
  readonly padded: boolean;
  readonly runtime: RuntimeOptions;
  /** Names all noise of the run. */
  readonly seed: number;
}

/** The compiled step. Gradients land in the arena that it was created with. */
export class StepProgram {
  private constructor(
    private readonly program: Program,
    private readonly noise: NoiseInputs,
    private readonly noiseBuffers: Readonly<Record<string, Float32Array>>,
    private readonly seed: number,
    private readonly auxiliaryNames: readonly (readonly [string, readonly string[]])[],
    /** Indices of the sparse blocks, in the order of {@link BatchReport.loads}. */
    readonly sparseLayers: readonly number[],
  ) {}

  /**
   * Compiles forward and backward over the trainable parameters.
   * @param frozen buffers of the parameters that are not in the arena.
   */
  static async create(
    model: LanguageModel,
    parameters: ReadonlyMap<string, Parameter>,
    values: ParameterArena,
    gradients: ParameterArena,
    frozen: ReadonlyMap<string, Float32Array>,
    { shape, padded, runtime, seed }: StepProgramOptions,
  ): Promise<StepProgram> {
    const context = trainingContext();
    const traced = traceObjective(model, shape, context, padded);
    const names = [...gradients.views.keys()];
    const derived = differentiate(
      traced.loss,
      names.map((name) => parameters.get(name)!.tensor),
    );
    const auxiliary = new Map<string, string[]>();
    const outputs: Record<string, Tensor> = { loss: traced.loss, taskLoss: traced.taskLoss };
    for (const { name, layerIndex, value } of traced.losses) {
      outputs[`${name}.${layerIndex}`] = value;
      auxiliary.set(name, [...(auxiliary.get(name) ?? []), `${name}.${layerIndex}`]);
    }
    for (const { layerIndex, load, dropped } of traced.records) {
      outputs[`load.${layerIndex}`] = load;
      outputs[`dropped.${layerIndex}`] = dropped;
    }
    names.forEach((name, i) => (outputs[`gradient.${name}`] = derived[i]!));

    const program = await compile(outputs, runtime);
    program.bindKnown(values.views).bindKnown(frozen);
    for (const [name, view] of gradients.views) program.bindOutput(`gradient.${name}`, view);
    const noiseBuffers: Record<string, Float32Array> = {};
    for (const [name, tensor] of context.noise.feeds) {
      noiseBuffers[name] = new Float32Array((tensor.shape as number[]).reduce((a, b) => a * b, 1));
    }
    program.bindKnown(Object.entries(noiseBuffers));
    const layers = traced.records.map(({ layerIndex }) => layerIndex);
    return new StepProgram(program, context.noise, noiseBuffers, seed, [...auxiliary], layers);
  }

  /** @param batchNumber counts all batches of the run: it names the noise. */
  async run(feeds: Buffers, batchNumber: number): Promise<BatchReport> {
    this.noise.fill(this.seed, batchNumber, this.noiseBuffers);
    this.program.bindKnown(Object.entries(feeds));
    const results = await this.program.run();
    const first = (name: string): number => Number(results[name][0]);
    const mean = (names: readonly string[]): number =>
      names.reduce((sum, name) => sum + first(name), 0) / names.length;
    return {
      loss: first('loss'),
      taskLoss: first('taskLoss'),
      auxiliary: Object.fromEntries(this.auxiliaryNames.map(([name, parts]) => [name, mean(parts)])),
      loads: this.sparseLayers.map((layer) => Int32Array.from(results[`load.${layer}`] as Int32Array)),
      dropped: this.sparseLayers.reduce((sum, layer) => sum + first(`dropped.${layer}`), 0),
    };
  }

  /** Frees the session. */
  async release(): Promise<void> {
    await this.program.release();
  }
}
