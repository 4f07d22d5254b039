/**
 * Distillation of a large sparse teacher into a small dense student (Switch Transformer, arXiv 2101.03961 §4.2).
 * @module
 */
import { createHash } from 'node:crypto';
import type { AnyBatch, BatchShape } from '../data/index.js';
import { add, input, logSoftmax, multiply, negate, softmax, subtract, sum } from '../graph/index.js';
import type { Model } from '../models/index.js';
import { evaluationContext, maskedMean, nameParameters } from '../nn/index.js';
import { compile, type Program, type RuntimeOptions } from '../runtime/index.js';
import type { Objective } from './objective.js';
import { objectiveOf } from './objectives/index.js';

/** A trained model that another is to agree with. */
export interface TeacherModel {
  readonly model: Model;
  /** Every parameter by name. */
  readonly weights: ReadonlyMap<string, Float32Array>;
}

/** Settings of {@link Teacher.create}. */
export interface TeacherOptions {
  readonly shape: BatchShape;
  /** Whether batches may contain padding. */
  readonly padded: boolean;
  readonly runtime: RuntimeOptions;
}

/** Says what a teacher thinks of each training batch, without noise. */
export class Teacher {
  private constructor(
    private readonly objective: Objective,
    private readonly program: Program,
    /** Of the last batch, `[targets, classes]`: a buffer that every batch overwrites. */
    readonly logits: Float32Array,
    /** `[targets, classes]` */
    readonly shape: readonly [targets: number, classes: number],
  ) {}

  /**
   * Compiles the teacher's forward pass.
   * @throws RangeError if it cannot teach: it looks ahead, remembers earlier segments, or has no room for the batches.
   */
  static async create(
    { model, weights }: TeacherModel,
    { shape, padded, runtime }: TeacherOptions,
  ): Promise<Teacher> {
    const [leak] = 'leaks' in model ? model.leaks : [];
    if (leak !== undefined)
      throw new RangeError(`the teacher looks ahead, so that it knows what it should guess: ${leak}`);
    const objective = objectiveOf(model);
    if (objective.memory(shape.batchSize, false))
      throw new RangeError('the teacher remembers earlier segments, which a student is not told');
    nameParameters(model);
    const logits = traceLogits(objective, shape, padded);
    const size = logits.shape as [number, number];
    const program: Program = (await compile({ logits }, runtime)).bindKnown(weights);
    const buffer = new Float32Array(size[0] * size[1]);
    program.bindOutput('logits', buffer);
    return new Teacher(objective, program, buffer, size);
  }

  /** Fills {@link logits} for a batch. */
  async run(batch: AnyBatch): Promise<void> {
    this.program.bindKnown(Object.entries(this.objective.feeds(batch)));
    await this.program.run();
  }

  /** Frees the session. */
  async release(): Promise<void> {
    await this.program.release();
  }
}

function traceLogits(objective: Objective, shape: BatchShape, padded: boolean) {
  try {
    return objective.trace(evaluationContext(), { shape, padded }).logits;
  } catch (error) {
    if (error instanceof RangeError) throw new RangeError(`the teacher: ${error.message}`, { cause: error });
    throw error;
  }
}

/** How much a student listens. */
export interface DistillationMix {
  /** Share of the teacher's opinion in the task loss, the rest is what the data says; Switch uses 0.25. */
  readonly softWeight: number;
  /** τ by which both models' logits are divided; the soft loss is multiplied by τ² (Hinton et al., arXiv 1503.02531). */
  readonly temperature: number;
}

/**
 * The student's objective: `(1 − w) · task + w · τ² · mean_t(−Σ_i p_i log q_i)` and auxiliary losses, with p the
 * teacher's and q the student's distribution over each counted target. The task loss that it reports stays that of the
 * data; the soft one is among the auxiliary losses as `distillation`. Use the plain objective to evaluate.
 *
 * @throws RangeError if student and teacher choose from different numbers of tokens or classes.
 */
export function distilled(
  objective: Objective,
  teacher: Pick<Teacher, 'logits' | 'shape'>,
  { softWeight, temperature }: DistillationMix,
): Objective {
  return {
    ...objective,
    trace(context, settings) {
      const traced = objective.trace(context, settings);
      const { logits, counted, taskLoss } = traced;
      const [, classes] = logits.shape;
      if (classes !== teacher.shape[1])
        throw new RangeError(`the student has ${classes} outputs, but the teacher ${teacher.shape[1]}`);
      const opinion = input('teacherLogits', logits.dtype, teacher.shape);
      const wanted = softmax(multiply(opinion, 1 / temperature));
      const given = logSoftmax(multiply(logits, 1 / temperature));
      const perTarget = negate(sum(multiply(wanted, given), 1));
      const soft = multiply(maskedMean(perTarget, counted), temperature ** 2);
      return {
        ...traced,
        loss: add(traced.loss, multiply(subtract(soft, taskLoss), softWeight)),
        losses: [
          ...traced.losses,
          { name: 'distillation', coefficient: softWeight, value: soft, layerIndex: 0 },
        ],
      };
    },
    feeds: (batch) => ({ ...objective.feeds(batch), teacherLogits: teacher.logits }),
  };
}

/**
 * Gives a student the teacher's weights where names and shapes agree: everything but experts and their routers, if both
 * are of the same sizes.
 * @returns names of the parameters that were given.
 */
export function copyFromTeacher(
  student: ReadonlyMap<string, Float32Array>,
  shapes: ReadonlyMap<string, readonly number[]>,
  { model, weights }: TeacherModel,
): readonly string[] {
  const given: string[] = [];
  for (const [name, { shape }] of model.parameters()) {
    const target = student.get(name);
    if (!target || shapes.get(name)?.join() !== shape.join()) continue;
    target.set(weights.get(name)!);
    given.push(name);
  }
  return given;
}

/** SHA-256 of a teacher's weights: a run repeats its bits with the same teacher only. */
export function fingerprintOf({ weights }: TeacherModel): string {
  const hash = createHash('sha256');
  for (const [name, data] of weights)
    hash.update(name).update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  return hash.digest('hex');
}
