/**
 * What a run's log says in a few numbers.
 * @module
 */
import type { JsonObject } from '../checkpoints/index.js';
import type { RunRecord } from './record.js';

/** Points of the training curve that a record keeps. */
const POINTS = 100;

type Line = JsonObject & { readonly step: number };

/** Validation on the way. */
export function curveOf(metrics: readonly Line[]): RunRecord['curve'] {
  return metrics.flatMap(({ step, validation }) => {
    if (validation === undefined) return [];
    const { loss, bitsPerByte } = validation as { loss: number; bitsPerByte: number };
    return [{ step, loss, bitsPerByte }];
  });
}

/** Loss, rate and dropped choices of the training steps. */
export function trainingOf(
  metrics: readonly Line[],
): Pick<RunRecord, 'training' | 'tokens' | 'tokensPerSecond' | 'seconds' | 'trainingDropped'> {
  const steps = metrics.filter(({ taskLoss }) => taskLoss !== undefined) as unknown as readonly Step[];
  const interval = Math.max(1, Math.ceil(steps.length / POINTS));
  const training = Array.from({ length: Math.ceil(steps.length / interval) }, (_, i) => {
    const part = steps.slice(i * interval, (i + 1) * interval);
    const mean = part.reduce((sum, { taskLoss }) => sum + taskLoss, 0) / part.length;
    return { step: part.at(-1)!.step, taskLoss: Number(mean.toFixed(5)) };
  });
  const choices = steps.reduce(
    (sum, { routing = [] }) => sum + total(routing.flatMap(({ load }) => load)),
    0,
  );
  const dropped = total(steps.map((step) => step.dropped ?? 0));
  return {
    training,
    tokens: total(steps.map(({ tokens }) => tokens)),
    tokensPerSecond: Math.round(
      median(steps.map(({ tokens, milliseconds }) => (1000 * tokens) / milliseconds)),
    ),
    seconds: total(steps.map(({ milliseconds }) => milliseconds)) / 1000,
    trainingDropped: choices === 0 ? 0 : dropped / choices,
  };
}

/** A line of a training step, as the trainer writes it. */
interface Step {
  readonly step: number;
  readonly taskLoss: number;
  readonly tokens: number;
  readonly milliseconds: number;
  readonly dropped?: number;
  readonly routing?: readonly { readonly load: readonly number[] }[];
}

const total = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1];
}
