import { describe, expect, test } from 'vitest';
import { randomNumbers } from '../../../test/support/gradient-check.js';
import { layerContext, layerSizes } from '../../../test/support/moe-context.js';
import { randomParameters, run } from '../../../test/support/numbers.js';
import { input } from '../../graph/index.js';
import { nameParameters, NoiseInputs, streamKey } from '../../nn/index.js';
import { createKind } from '../kind.js';
import { routerKinds, routerSchema } from './index.js';

type Options = Readonly<Record<string, unknown>> & { readonly kind: string };

describe('defaults', () => {
  test.each([
    {
      kind: 'sigmoid',
      normalizeGates: false,
      expertDropout: 0,
      entropyCoefficient: 1e-3,
      initialization: 'sigmaMoe',
    },
    {
      kind: 'noisyTopK',
      importanceCoefficient: 0.1,
      loadCoefficient: 0.1,
      minimumNoise: 0.01,
      initialization: 'zero',
    },
    {
      kind: 'sBase',
      iterations: 3,
      potentials: 'correct',
      group: 'batch',
      expertDropout: 0,
      entropyCoefficient: 1e-3,
      initialization: 'sigmaMoe',
    },
    {
      kind: 'biasBalanced',
      score: 'sigmoid',
      scale: 1,
      updateSpeed: 1e-3,
      sequenceBalanceCoefficient: 0,
      uniformInitialization: false,
    },
  ])('of $kind', (options) => {
    expect(routerSchema.parse({ kind: options.kind })).toEqual(options);
  });
});

describe('bad options are refused by name', () => {
  test.each([
    ['softmax', 'exploration', 'greedy'],
    ['softmax', 'inputDropout', 1],
    ['softmax', 'balanceForm', 'code'],
    ['softmax', 'entropyOf', 'none'],
    ['sigmoid', 'expertDropout', 1],
    ['sigmoid', 'entropyCoefficient', -1],
    ['sigmoid', 'initialization', 'zero'],
    ['noisyTopK', 'minimumNoise', -0.1],
    ['noisyTopK', 'loadCoefficient', -1],
    ['sBase', 'iterations', 0],
    ['sBase', 'potentials', 'wrong'],
    ['biasBalanced', 'score', 'relu'],
    ['biasBalanced', 'scale', 0],
    ['biasBalanced', 'updateSpeed', -1],
  ])('%s: %s %s', (kind, option, value) => {
    const result = routerSchema.safeParse({ kind, [option]: value });
    expect(result.error?.issues.map(({ path }) => path)).toEqual([[option]]);
  });
});

/** Everything that training sees of a router which was made from options, and how its weights start. */
async function behaviour(options: Options): Promise<unknown> {
  const sizes = { ...layerSizes(), numExperts: 5, topK: 2 };
  const router = createKind(routerKinds, routerSchema.parse(options), sizes);
  const parameters = nameParameters(router, 'float64');
  const noise = new NoiseInputs();
  const context = layerContext({ training: true, noise, batchSize: 2 });
  const { experts, gates, losses, updates = [] } = router.route(input('hidden', 'float64', [12, 4]), context);
  const buffers = Object.fromEntries(
    [...noise.feeds].map(([name, { shape }]) => [
      name,
      new Float64Array((shape as number[]).reduce((a, b) => a * b, 1)),
    ]),
  );
  noise.fill(1, 1, buffers);
  const outputs = Object.fromEntries([
    ['experts', experts],
    ['gates', gates],
    ...losses.map(({ name, value }) => [name, value] as const),
    ...updates.map(({ observation }, i) => [`observation ${i}`, observation] as const),
  ]);
  const results = await run(outputs, [
    ...randomParameters(parameters, 1, 3),
    ...Object.entries(buffers),
    ['hidden', randomNumbers(2, 48, -0.5, 1)],
  ]);
  const state = updates.map(({ apply }, i) => {
    const bias = new Float32Array(5);
    apply(bias, Float32Array.from(results[`observation ${i}`]));
    return [...bias];
  });
  const starts = [...parameters].map(([name, { initializer }]) => {
    const numbers = new Float32Array(20);
    initializer(streamKey(name), numbers);
    return [...numbers];
  });
  return { results, coefficients: losses.map(({ coefficient }) => coefficient), state, starts };
}

describe('every option does something, from a recipe to the training step', () => {
  test.each<[Options, Readonly<Record<string, unknown>>]>([
    [{ kind: 'softmax' }, { exploration: 'sample' }],
    [{ kind: 'softmax' }, { inputDropout: 0.3 }],
    [{ kind: 'softmax' }, { balanceForm: 'releasedSigmaMoe' }],
    [{ kind: 'softmax' }, { entropyCoefficient: 0.1 }],
    [{ kind: 'softmax', entropyCoefficient: 0.1 }, { entropyOf: 'selected' }],
    [{ kind: 'sigmoid' }, { normalizeGates: true }],
    [{ kind: 'sigmoid' }, { expertDropout: 0.3 }],
    [{ kind: 'sigmoid' }, { entropyCoefficient: 0.1 }],
    [{ kind: 'sigmoid' }, { initialization: 'model' }],
    [{ kind: 'noisyTopK' }, { importanceCoefficient: 0 }],
    [{ kind: 'noisyTopK' }, { loadCoefficient: 0 }],
    [{ kind: 'noisyTopK' }, { minimumNoise: 0.5 }],
    [{ kind: 'noisyTopK' }, { initialization: 'model' }],
    [{ kind: 'sBase' }, { iterations: 1 }],
    [{ kind: 'sBase' }, { potentials: 'released' }],
    [{ kind: 'sBase' }, { group: 'sequence' }],
    [{ kind: 'sBase' }, { expertDropout: 0.3 }],
    [{ kind: 'sBase' }, { entropyCoefficient: 0.1 }],
    [{ kind: 'sBase' }, { initialization: 'model' }],
    [{ kind: 'biasBalanced' }, { score: 'softmax' }],
    [{ kind: 'biasBalanced' }, { normalizeGates: false }],
    [{ kind: 'biasBalanced', score: 'softmax' }, { normalizeGates: true }],
    [{ kind: 'biasBalanced' }, { scale: 2.5 }],
    [{ kind: 'biasBalanced' }, { updateSpeed: 0.01 }],
    [{ kind: 'biasBalanced' }, { sequenceBalanceCoefficient: 0.01 }],
    [{ kind: 'biasBalanced' }, { standardDeviation: 0.02 }],
    [{ kind: 'biasBalanced' }, { uniformInitialization: true }],
  ])('%o with %o', async (options, change) => {
    const before = await behaviour(options);
    expect(await behaviour(options)).toEqual(before);
    expect(await behaviour({ ...options, ...change })).not.toEqual(before);
  });
});
