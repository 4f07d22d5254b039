/**
 * One training step as one program: loss, gradients, and what the sparse layers did.
 * @module
 */
import { gradients as differentiate, type Tensor } from '../graph/index.js';
import type { BatchShape } from '../data/index.js';
import type { RoutingRecord } from '../moe/index.js';
import {
  trainingContext,
  type NoiseInputs,
  type Parameter,
  type ParameterArena,
  type StateUpdate,
} from '../nn/index.js';
import { compile, type Buffers, type Program, type RuntimeOptions } from '../runtime/index.js';
import type { Objective } from './objective.js';
import type { SegmentBuffers } from './segment-buffers.js';

/** What one batch taught. */
export interface BatchReport {
  /** The minimised sum, nats. */
  readonly loss: number;
  /** Nats per target. */
  readonly taskLoss: number;
  /** Auxiliary losses before their coefficients, by name, averaged over layers. */
  readonly auxiliary: Readonly<Record<string, number>>;
  /** `[numExperts]` per routed layer. */
  readonly loads: readonly Int32Array[];
  /** Choices without a place, over all layers. */
  readonly dropped: number;
  /** What the batch showed about state without a gradient, by the parameter's name. */
  readonly observations: ReadonlyMap<string, Float32Array>;
}

/** A layer that routes, or one of the strata of a layer that routes several times. */
export type RoutedLayer = Pick<RoutingRecord, 'name' | 'numExperts' | 'firstExpert' | 'topK'>;

interface StateRule {
  readonly outputs: readonly string[];
  readonly apply: StateUpdate['apply'];
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
    /** Layers that route, in the order of {@link BatchReport.loads}. */
    readonly routedLayers: readonly RoutedLayer[],
    /** State without a gradient by its parameter's name, with the observations of each layer that has it. */
    private readonly states: ReadonlyMap<string, StateRule>,
    /** What layers remember of the batches before; absent for models without a memory. */
    readonly memory: SegmentBuffers | undefined,
  ) {}

  /**
   * Compiles forward and backward over the trainable parameters.
   * @param frozen buffers of the parameters that are not in the arena.
   */
  static async create(
    objective: Objective,
    parameters: ReadonlyMap<string, Parameter>,
    values: ParameterArena,
    gradients: ParameterArena,
    frozen: ReadonlyMap<string, Float32Array>,
    { shape, padded, runtime, seed }: StepProgramOptions,
  ): Promise<StepProgram> {
    const context = trainingContext();
    const traced = objective.trace(context, { shape, padded });
    const names = [...gradients.views.keys()];
    const derived = differentiate(
      traced.loss,
      names.map((name) => parameters.get(name)!.tensor),
    );
    const auxiliary = new Map<string, string[]>();
    const outputs: Record<string, Tensor> = {
      loss: traced.loss,
      taskLoss: traced.taskLoss,
      ...traced.memory,
    };
    for (const { name, layerIndex, value } of traced.losses) {
      outputs[`${name}.${layerIndex}`] = value;
      auxiliary.set(name, [...(auxiliary.get(name) ?? []), `${name}.${layerIndex}`]);
    }
    for (const { name, load, dropped } of traced.records) {
      outputs[`load.${name}`] = load;
      outputs[`dropped.${name}`] = dropped;
    }
    const states = new Map<string, StateRule>();
    const nameOf = new Map([...parameters].map(([name, parameter]) => [parameter, name]));
    traced.updates.forEach(({ parameter, observation, apply }, i) => {
      const name = nameOf.get(parameter)!;
      outputs[`observation.${i}`] = observation;
      states.set(name, { apply, outputs: [...(states.get(name)?.outputs ?? []), `observation.${i}`] });
    });
    names.forEach((name, i) => (outputs[`gradient.${name}`] = derived[i]!));

    const program = await compile(outputs, runtime);
    program.bindKnown(values.views).bindKnown(frozen);
    for (const [name, view] of gradients.views) program.bindOutput(`gradient.${name}`, view);
    const noiseBuffers: Record<string, Float32Array> = {};
    for (const [name, tensor] of context.noise.feeds) {
      noiseBuffers[name] = new Float32Array((tensor.shape as number[]).reduce((a, b) => a * b, 1));
    }
    program.bindKnown(Object.entries(noiseBuffers));
    return new StepProgram(
      program,
      context.noise,
      noiseBuffers,
      seed,
      [...auxiliary],
      traced.records,
      states,
      objective.memory(shape.batchSize, true),
    );
  }

  /**
   * @param batchNumber counts all batches of the run: it names the noise.
   * @param restarts whether rows begin anew: what layers remember is forgotten before.
   */
  async run(feeds: Buffers, batchNumber: number, restarts = false): Promise<BatchReport> {
    this.noise.fill(this.seed, batchNumber, this.noiseBuffers);
    this.program.bindKnown(Object.entries(feeds));
    if (restarts) this.memory?.reset();
    this.memory?.bind(this.program);
    const results = await this.program.run();
    this.memory?.advance();
    const first = (name: string): number => Number(results[name][0]);
    const mean = (names: readonly string[]): number =>
      names.reduce((sum, name) => sum + first(name), 0) / names.length;
    return {
      loss: first('loss'),
      taskLoss: first('taskLoss'),
      auxiliary: Object.fromEntries(this.auxiliaryNames.map(([name, parts]) => [name, mean(parts)])),
      loads: this.routedLayers.map(({ name }) => Int32Array.from(results[`load.${name}`] as Int32Array)),
      dropped: this.routedLayers.reduce((sum, { name }) => sum + first(`dropped.${name}`), 0),
      observations: new Map(
        [...this.states].map(([name, { outputs }]) => [
          name,
          averageArrays(outputs.map((output) => results[output] as Float32Array)),
        ]),
      ),
    };
  }

  /** Lets state follow what an update's batches showed; patterns that freeze it are the caller's affair. */
  applyState(name: string, state: Float32Array, observation: Float32Array): void {
    this.states.get(name)?.apply(state, observation);
  }

  /** Frees the session. */
  async release(): Promise<void> {
    await this.program.release();
  }
}

/** Element by element, into a new array. */
export function averageArrays(
  arrays: readonly Float32Array[],
  weights: readonly number[] = arrays.map(() => 1),
): Float32Array {
  const total = weights.reduce((a, b) => a + b, 0);
  return Float32Array.from(arrays[0], (_, at) =>
    total === 0 ? 0 : arrays.reduce((sum, array, i) => sum + weights[i] * array[at], 0) / total,
  );
}
