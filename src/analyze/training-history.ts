/**
 * What a run's log says about its course: losses, and who got the tokens.
 * @module
 */
import { z } from 'zod';

/** Course of a run, thinned to what a figure can show. */
export interface TrainingHistory {
  /** Mean task loss of the steps up to and including `step`, in nats per token. */
  readonly training: readonly { readonly step: number; readonly loss: number }[];
  readonly validation: readonly {
    readonly step: number;
    readonly loss: number;
    readonly bitsPerByte: number;
  }[];
  readonly load: readonly {
    readonly layer: string;
    /** Last step of each span. */
    readonly steps: readonly number[];
    /** Share of the span's choices per expert, `[spans][numExperts]`. */
    readonly shares: readonly (readonly number[])[];
  }[];
}

const stepSchema = z.object({
  step: z.number(),
  taskLoss: z.number(),
  routing: z.array(z.object({ layer: z.string(), load: z.array(z.number()) })).default([]),
});
const validationSchema = z.object({
  step: z.number(),
  validation: z.object({ loss: z.number(), bitsPerByte: z.number() }),
});

/**
 * The course of a run from its log.
 * @param records lines of `metrics.jsonl`; those that are neither steps nor evaluations are passed over
 * @param spans most points of a curve
 */
export function trainingHistory(records: readonly unknown[], spans = 60): TrainingHistory {
  const steps = records.flatMap((record) => stepSchema.safeParse(record).data ?? []);
  const validation = records.flatMap((record) => {
    const data = validationSchema.safeParse(record).data;
    return data ? [{ step: data.step, ...data.validation }] : [];
  });
  const groups = inSpans(steps, spans);
  const names = steps[0]?.routing.map(({ layer }) => layer) ?? [];
  return {
    training: groups.map((group) => ({
      step: group.at(-1)!.step,
      loss: group.reduce((sum, { taskLoss }) => sum + taskLoss, 0) / group.length,
    })),
    validation,
    load: names.map((layer, i) => ({
      layer,
      steps: groups.map((group) => group.at(-1)!.step),
      shares: groups.map((group) => {
        const loads = group.flatMap(({ routing }) => (routing[i]?.layer === layer ? [routing[i].load] : []));
        const sums = steps[0].routing[i].load.map((_, e) => loads.reduce((sum, load) => sum + load[e], 0));
        const total = sums.reduce((a, b) => a + b, 0);
        return sums.map((sum) => (total === 0 ? 0 : sum / total));
      }),
    })),
  };
}

/** Consecutive groups of nearly equal size. */
function inSpans<Item>(items: readonly Item[], spans: number): Item[][] {
  const count = Math.min(spans, items.length);
  return Array.from({ length: count }, (_, i) =>
    items.slice(Math.floor((i * items.length) / count), Math.floor(((i + 1) * items.length) / count)),
  );
}
