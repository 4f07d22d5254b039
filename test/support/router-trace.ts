/**
 * Routers in float64 graphs, with their noise, for the conformance suite.
 * @module
 */
import { add, input, multiply, sum, type Tensor } from '../../src/graph/index.js';
import type { FeedForwardContext, Router, Routing } from '../../src/moe/index.js';
import { nameParameters, NoiseInputs, type Module, type Parameter } from '../../src/nn/index.js';
import type { TensorData } from '../../src/runtime/index.js';
import { count } from './gradient-check.js';
import { layerContext } from './moe-context.js';
import { matrix, type Matrix } from './reference-moe.js';

/** What a router wants to know besides its input (token ids, earlier decisions), as a function of the rows. */
export type Surroundings = (hidden: Matrix) => {
  readonly context: Partial<FeedForwardContext>;
  readonly feeds: readonly (readonly [string, TensorData])[];
};

/** What a router is run on. */
export interface RouterSetup {
  readonly hidden: Matrix;
  readonly mask?: readonly number[];
  readonly training?: boolean;
  readonly batchSize?: number;
  readonly noise?: NoiseInputs;
}

/** Traces a router in float64. */
export function traceRouter(
  surroundings: Surroundings | undefined,
  router: Router & Module,
  { hidden, mask, training = false, batchSize = 1, noise = new NoiseInputs() }: RouterSetup,
) {
  const parameters = nameParameters(router, 'float64');
  const rows = input('hidden', 'float64', [hidden.length, hidden[0].length]);
  const tokenMask = mask && input('mask', 'float64', [hidden.length]);
  const { context = {}, feeds: more = [] } = surroundings?.(hidden) ?? {};
  const routing = router.route(rows, layerContext({ training, noise, batchSize, tokenMask, ...context }));
  const feeds: (readonly [string, TensorData])[] = [
    ['hidden', Float64Array.from(hidden.flat())],
    ['mask', Float64Array.from(mask ?? [])],
    ...more,
  ];
  const drawn = drawNoise(noise, 1);
  return { parameters, rows, routing, drawn, feeds: [...feeds, ...drawn] };
}

/** Noise of one step by the name of its feed. */
export function drawNoise(noise: NoiseInputs, step: number): Map<string, Float64Array> {
  const buffers = Object.fromEntries(
    [...noise.feeds].map(([name, { shape }]) => [name, new Float64Array(count(shape as number[]))]),
  );
  noise.fill(77, step, buffers);
  return new Map(Object.entries(buffers));
}

/** The noise of some tokens with rows for padding put between them, as the mask says. */
export function padNoise(
  drawn: ReadonlyMap<string, Float64Array>,
  mask: readonly number[],
): Map<string, Float64Array> {
  const tokens = mask.reduce((a, b) => a + b, 0);
  return new Map(
    [...drawn].map(([name, data]) => {
      const rows = matrix(data, data.length / tokens);
      let next = 0;
      const padded = mask.flatMap((real) => (real === 1 ? rows[next++] : rows[0].map(() => 0.5)));
      return [name, Float64Array.from(padded)];
    }),
  );
}

/** What gradients are asked for: weights, not state. */
export function trainable(parameters: ReadonlyMap<string, Parameter>): Map<string, Tensor> {
  return new Map(
    [...parameters].filter(([, { trainable: yes }]) => yes).map(([name, { tensor }]) => [name, tensor]),
  );
}

/** One number that depends on everything a router returns with a gradient. */
export function everything({ gates, losses, expertInput }: Routing, weights: Tensor): Tensor {
  const terms = losses.map(({ value }, i) => multiply(value, 0.5 + i));
  if (expertInput) terms.push(sum(multiply(expertInput, 0.1)));
  return terms.reduce(add, sum(multiply(gates, weights)));
}

export function outputsOf({
  experts,
  gates,
  probabilities,
  losses,
  updates = [],
}: Routing): Record<string, Tensor> {
  return {
    experts,
    gates,
    probabilities,
    ...Object.fromEntries(losses.map(({ name, value }) => [`loss ${name}`, value])),
    ...Object.fromEntries(updates.map(({ observation }, i) => [`observation ${i}`, observation])),
  };
}

/** The rows of real tokens, in one list. */
export function realRows(rows: Matrix, mask: readonly number[] | undefined): number[] {
  return rows.filter((_, t) => mask?.[t] !== 0).flat();
}
