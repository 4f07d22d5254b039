import { describe, expect, test } from 'vitest';
import { randomNumbers } from '../../../test/support/gradient-check.js';
import { leafGradientError } from '../../../test/support/leaf-gradients.js';
import { layerContext, layerSizes } from '../../../test/support/moe-context.js';
import { distance, randomParameters, run } from '../../../test/support/numbers.js';
import {
  prefixOf,
  referenceClusterWeights,
  referencePrefixStatistics,
  referenceStatistics,
  referenceTokenWeights,
  type ReferenceAssignment,
  type ReferenceStatistics,
} from '../../../test/support/reference-clustering.js';
import { matrix, referenceRouting, type Matrix } from '../../../test/support/reference-moe.js';
import { constant, gradients, input, multiply, sum, type Tensor } from '../../graph/index.js';
import { fillUniform, nameParameters, streamKey } from '../../nn/index.js';
import type { FeedForwardContext, RoutingRecord } from '../feed-forward.js';
import type { RouterModule } from '../router.js';
import { routerConformance, type RouterSizes } from '../router.case.js';
import { adaptiveClustering, type AdaptiveClusteringRouter } from './adaptive-clustering.js';
import { resolveClustering } from './adaptive-clustering/settings.js';

type Given = Readonly<Record<string, unknown>>;

const clusters = 6;
const parse = (options: Given) => adaptiveClustering.schema.parse({ kind: 'adaptiveClustering', ...options });

/** The router of a layer in the middle of a model in which every block is sparse. */
function create(options: Given, sizes: RouterSizes, layerIndex = 1): RouterModule {
  const surroundings = { ...layerSizes(), numLayers: 4, layerIndex, sparseIndex: layerIndex };
  return adaptiveClustering.create(parse(options), { ...surroundings, ...sizes });
}

/** What the layer before chose for a row: a function of the row, so that equal rows were treated equally. */
function choicesBefore(row: readonly number[]): { experts: number[]; gates: number[] } {
  if (Math.abs(row[0]) > 5) return { experts: [-1, -1], gates: [0, 0] };
  const first = row[0] > 0 ? 2 : row[1] > 0 ? 0 : 4;
  return { experts: [first, row[2] > 0 ? 1 : -1], gates: [0.6, row[2] > 0 ? 0.25 : 0] };
}

function recordOf(experts: Tensor, gates: Tensor, numExperts: number): RoutingRecord {
  const nothing = constant('int32', [1], [0]);
  return {
    name: '0',
    layerIndex: 0,
    numExperts,
    firstExpert: 0,
    topK: experts.shape[1] as number,
    experts,
    gates,
    probabilities: gates,
    load: nothing,
    dropped: nothing,
    losses: [],
  };
}

/** The layer before as tensors, with their numbers. */
function before(rows: Matrix, numExperts = clusters) {
  const choices = rows.map(choicesBefore);
  const experts = input('before', 'int32', [rows.length, 2]);
  const gates = input('gatesBefore', 'float64', [rows.length, 2]);
  const context: Partial<FeedForwardContext> = {
    layerIndex: 1,
    previousRecord: recordOf(experts, gates, numExperts),
  };
  const feeds = [
    ['before', Int32Array.from(choices.flatMap((choice) => choice.experts))],
    ['gatesBefore', Float64Array.from(choices.flatMap((choice) => choice.gates))],
  ] as const;
  return { choices, context, feeds };
}

function randomDispersions(hiddenSize: number): ReferenceStatistics {
  const numbers = new Float32Array(clusters * hiddenSize);
  fillUniform(streamKey('random cluster weights', 1), numbers);
  return { dispersion: matrix(numbers, hiddenSize), present: new Array<boolean>(clusters).fill(true) };
}

const followed = 'statistics follow the input without a gradient: their test is below';

function subject(options: Given): Parameters<typeof routerConformance>[0] {
  const parsed = parse(options);
  const settings = resolveClustering(parsed);
  const losses = { balanceCoefficient: 0.01, zLossCoefficient: 1e-3 };
  const make = (sizes: RouterSizes, more: Given = {}): RouterModule =>
    create({ ...options, inner: { kind: 'softmax', ...losses, ...more } }, sizes);
  return {
    name: `adaptive clustering ${JSON.stringify(options)}`,
    create: (sizes) => make(sizes),
    createNoisy: (sizes) => make(sizes, { jitter: 0.1 }),
    surroundings: (hidden) => before(hidden),
    reference: (sizes, { hidden, parameters, mask }, { training, batchSize }) => {
      const choices = hidden.map(choicesBefore);
      const assignment: ReferenceAssignment = {
        hidden,
        experts: choices.map(({ experts }) => experts),
        gates: choices.map(({ gates }) => gates),
        numClusters: clusters,
      };
      const columns = sizes.hiddenSize + 1;
      const state = parameters.get('statistics');
      const averaged = state && matrix(state, columns);
      const ofAll = referenceStatistics(assignment, settings);
      const statistics = (token: number): ReferenceStatistics => {
        if (parsed.weights === 'random') return randomDispersions(sizes.hiddenSize);
        if (settings.stats === 'prefix') {
          return referencePrefixStatistics(prefixOf(assignment, token, batchSize), settings);
        }
        if (!averaged || training) return ofAll;
        return {
          dispersion: averaged.map((row) => row.slice(0, -1).map((s) => s / Math.max(row.at(-1)!, 1e-12))),
          present: averaged.map((row) => row.at(-1)! > 0),
        };
      };
      const listens = sizes.numExperts === clusters;
      const rescaled = (): Matrix => {
        const weights = referenceTokenWeights(
          (token) => referenceClusterWeights(statistics(token), settings),
          assignment,
          settings.label,
        );
        return hidden.map((row, t) => row.map((x, q) => x * weights[t][q]));
      };
      const routing = referenceRouting(
        { ...sizes, intermediateSize: 0, activation: 'relu' },
        {
          hidden: listens ? rescaled() : hidden,
          parameters: new Map([['router.classifier.weight', parameters.get('inner.classifier.weight')!]]),
          mask,
        },
      );
      const { experts, gates, probabilities, balance, z } = routing;
      const observation = ofAll.dispersion.flatMap((row, k) => {
        const present = Number(ofAll.present[k]);
        return [...row.map((s) => s * present), present];
      });
      const observations = state && listens ? { observations: [observation] } : {};
      return { experts, gates, probabilities, losses: { balance, z }, ...observations };
    },
    permuteExperts: (parameters, order, { hiddenSize }) => {
      const rows = matrix(parameters.get('inner.classifier.weight')!, hiddenSize);
      const permuted = Float64Array.from(order.flatMap((expert) => rows[expert]));
      return new Map(parameters).set('inner.classifier.weight', permuted);
    },
    skip: {
      'an expert that nobody chose gets no gradient from the gates':
        'its gates are those of the inner router',
      ...(parsed.weights !== 'random' && {
        'gradients equal finite differences': followed,
        'the backward pass sees the noise of the forward pass': followed,
      }),
      ...(settings.stats === 'batch' &&
        parsed.weights === 'clusters' && {
          'later tokens do not change earlier choices': 'they do, as its leak says',
        }),
    },
  };
}

routerConformance(subject({}));
routerConformance(subject({ stats: 'prefix', label: 'mixed', scale: 'global' }));
routerConformance(subject({ preset: 'released-vision' }));
routerConformance(subject({ preset: 'paper', dispersion: 'pairwise' }));
routerConformance(subject({ weights: 'random' }));

const sizes: RouterSizes = { hiddenSize: 5, numExperts: clusters, topK: 2 };
const rows = matrix(randomNumbers(21, 12 * 5), 5);

/** A router traced over some rows, with feeds for everything. */
function trace(router: RouterModule, some: Matrix, context: Partial<FeedForwardContext> = {}) {
  const parameters = nameParameters(router, 'float64');
  const hidden = input('hidden', 'float64', [some.length, 5]);
  const { context: surroundings, feeds } = before(some);
  const routing = router.route(hidden, layerContext({ ...surroundings, ...context }));
  return {
    parameters,
    hidden,
    routing,
    feeds: new Map<string, Float64Array | Int32Array>([
      ['hidden', Float64Array.from(some.flat())] as const,
      ...feeds,
    ]),
  };
}

describe('exactly the inner router', () => {
  const same = async (
    options: Given,
    some: Matrix,
    context: Partial<FeedForwardContext> = {},
    inner: Given = { kind: 'softmax' },
  ): Promise<boolean> => {
    const around = trace(create({ inner, ...options }, sizes), some, context);
    const data = randomParameters(around.parameters, 3, 1);
    const ofRouting = ({ experts, gates, probabilities }: typeof around.routing) => ({
      experts,
      gates,
      probabilities,
    });
    const actual = await run(ofRouting(around.routing), [...data, ...around.feeds]);
    // A router without layers that re-weight is its inner router.
    const plain = trace(create({ inner, ...options, layers: [] }, sizes), some, context);
    const expected = await run(ofRouting(plain.routing), [...data, ...plain.feeds]);
    return JSON.stringify(actual) === JSON.stringify(expected);
  };

  test('with weights that are ones, bit for bit', async () => {
    expect(await same({ weights: 'ones' }, rows)).toBe(true);
    expect(await same({ weights: 'ones' }, rows, {}, { kind: 'sigmoid' })).toBe(true);
    expect(await same({ weights: 'random' }, rows)).toBe(false);
    expect(await same({ preset: 'paper' }, rows)).toBe(false);
  });

  test('for the gate of unit embeddings, those embeddings alone', async () => {
    const router = create({ preset: 'released-lm', weights: 'ones' }, sizes);
    const { parameters, hidden, routing, feeds } = trace(router, rows);
    const data = [...randomParameters(parameters, 3, 1), ...feeds];
    const { gates } = await run({ gates: routing.gates }, data);
    const { gate } = router as AdaptiveClusteringRouter;
    const alone = await run({ gates: gate!.route(hidden, layerContext()).gates }, data);
    expect(gates).toEqual(alone.gates);
  });

  test('for a single token, bit for bit', async () => {
    for (const options of [{}, { preset: 'paper' }, { stats: 'prefix' }] as const) {
      const one = await same(options, rows.slice(0, 1), { training: true });
      expect(one, JSON.stringify(options)).toBe(true);
    }
  });

  test('for the first token of a sequence when it looks at prefixes', async () => {
    const router = trace(create({ stats: 'prefix', minMembers: 2 }, sizes), rows);
    const plain = trace(create({ layers: [] }, sizes), rows);
    const data = randomParameters(router.parameters, 3, 1);
    const a = await run({ gates: router.routing.gates }, [...data, ...router.feeds]);
    const b = await run({ gates: plain.routing.gates }, [...data, ...plain.feeds]);
    expect(a.gates.slice(0, 2)).toEqual(b.gates.slice(0, 2));
    expect(a.gates.slice(2)).not.toEqual(b.gates.slice(2));
  });

  test('without a layer before, or with one that has another number of experts', async () => {
    for (const options of [{ preset: 'paper' }, { preset: 'released-vision' }] as const) {
      expect(await same(options, rows, { previousRecord: undefined })).toBe(true);
      const { context } = before(rows, clusters + 1);
      expect(await same(options, rows, context)).toBe(true);
      const routing = trace(create(options, sizes), rows, { previousRecord: undefined }).routing;
      expect(routing.expertInput).toBeUndefined();
    }
  });

  test('in evaluation before any training', async () => {
    const { parameters, routing, feeds } = trace(create({}, sizes), rows);
    const data = randomParameters(parameters, 3, 1).set('statistics', new Float64Array(6 * 6));
    const plain = trace(create({ layers: [] }, sizes), rows);
    const a = await run({ gates: routing.gates }, [...data, ...feeds]);
    const b = await run({ gates: plain.routing.gates }, [...data, ...plain.feeds]);
    expect(a.gates).toEqual(b.gates);
  });

  test('in layers that are not listed', async () => {
    const inLayer = async (layerIndex: number): Promise<boolean> =>
      same({ preset: 'paper', layers: [1, 3] }, rows, { layerIndex });
    expect([await inLayer(1), await inLayer(2), await inLayer(3)]).toEqual([false, true, false]);
  });

  test('in a model whose every second block is sparse, layers are counted among the sparse ones', async () => {
    const surroundings = { ...layerSizes(), ...sizes, numLayers: 6, layerIndex: 3, sparseIndex: 1 };
    const router = adaptiveClustering.create(parse({ preset: 'paper', layers: [2] }), surroundings);
    const plain = trace(create({ layers: [] }, sizes), rows);
    const data = randomParameters(plain.parameters, 3, 1);
    const expected = await run({ gates: plain.routing.gates }, [...data, ...plain.feeds]);
    for (const [layerIndex, listed] of [
      [3, false],
      [5, true],
    ] as const) {
      const { routing, feeds } = trace(router, rows, { layerIndex });
      const { gates } = await run({ gates: routing.gates }, [...data, ...feeds]);
      expect(distance(gates, expected.gates) > 1e-6, `block ${layerIndex}`).toBe(listed);
    }
  });
});

describe('gradients', () => {
  test('flow through the input, scaled by its weights, and not through statistics', async () => {
    for (const options of [{ preset: 'released-vision' }, { preset: 'released-lm' }, { stats: 'prefix' }]) {
      const { parameters, hidden, routing, feeds } = trace(create(options, sizes), rows, { training: true });
      const arriving = input('arriving', 'float64', routing.gates.shape);
      const scalar = sum(multiply(routing.gates, arriving));
      const data = randomParameters(parameters, 3, 1);
      const all = new Map([...data, ...feeds, ['arriving', randomNumbers(5, 24)] as const]);
      // Where the weights are known, the router is its gate on h ∘ w: a graph without statistics.
      const ones = new Float64Array(60).fill(1);
      const scales = input('scales', 'float64', [12, 5]);
      const frozenOptions = { ...options, weights: 'ones' };
      const frozen = create(frozenOptions, sizes);
      nameParameters(frozen, 'float64');
      const { context } = before(rows);
      const scaled = multiply(hidden, scales);
      const same = frozen.route(scaled, layerContext({ ...context, training: true }));
      const [expected] = gradients(sum(multiply(same.gates, arriving)), [hidden]);
      const [gradient] = gradients(scalar, [hidden]);
      const weights = await weightsOf(options, rows);
      const actual = await run({ gradient }, all);
      const constant = await run({ gradient: expected }, [...all, ['scales', weights]]);
      expect(distance(actual.gradient, constant.gradient), JSON.stringify(options)).toBeLessThan(1e-12);
      expect(distance(weights, ones)).toBeGreaterThan(1e-3);
    }
  });

  test('of the weights equal finite differences', async () => {
    for (const options of [{}, { preset: 'released-lm' }, { inner: { kind: 'sigmoid' }, stats: 'prefix' }]) {
      const { parameters, routing, feeds } = trace(create(options, sizes), rows, { training: true });
      const arriving = input('arriving', 'float64', routing.gates.shape);
      const leaves = [...parameters].filter(([, { trainable }]) => trainable);
      const error = await leafGradientError(
        sum(multiply(routing.gates, arriving)),
        new Map(leaves.map(([name, { tensor }]) => [name, tensor])),
        new Map([
          ...randomParameters(parameters, 3, 1),
          ...feeds,
          ['arriving', randomNumbers(5, 24)] as const,
        ]),
      );
      expect(error).toBeLessThan(1e-8);
    }
  });

  /** The weights of every token, from what the experts would see. */
  async function weightsOf(options: Given, some: Matrix): Promise<Float64Array> {
    const { parameters, routing, feeds } = trace(
      create({ ...options, applyTo: 'router+experts' }, sizes),
      some,
      { training: true },
    );
    const { seen } = await run({ seen: routing.expertInput! }, [
      ...randomParameters(parameters, 3, 1),
      ...feeds,
    ]);
    return Float64Array.from(seen, (value, i) => value / some.flat()[i]);
  }
});

test('experts see the re-weighted tokens only when asked', () => {
  const seen = (options: Given) => trace(create(options, sizes), rows).routing.expertInput;
  expect(seen({ preset: 'released-lm' })).toBeUndefined();
  expect(seen({ preset: 'released-vision' })).toBeDefined();
  expect(seen({ preset: 'released-vision', applyTo: 'router' })).toBeUndefined();
});

test('the moving average keeps dispersions of clusters that come and go', () => {
  const { routing } = trace(create({ decay: 0.9 }, sizes), rows, { training: true });
  const [{ apply, observation }] = routing.updates!;
  expect(observation.toString()).toBe('float64[6, 6]');
  const state = new Float32Array(36);
  const seen = new Float32Array(36);
  seen.set([1, 2, 3, 4, 5, 1]);
  apply(state, seen);
  apply(state, new Float32Array(36));
  apply(state, new Float32Array(36));
  // Absence takes nothing from s: what is read is the quotient.
  const mass = state[5];
  expect(mass).toBeCloseTo(0.081, 6);
  expect(Array.from(state.subarray(0, 5), (s) => s / mass)).toEqual(
    [1, 2, 3, 4, 5].map((s) => expect.closeTo(s, 5) as number),
  );
});

test('permuted labels change the decision', async () => {
  const [own, next] = await Promise.all(
    [false, true].map(async (permuteLabels) => {
      const { parameters, routing, feeds } = trace(create({ preset: 'paper', permuteLabels }, sizes), rows);
      return run({ gates: routing.gates }, [...randomParameters(parameters, 3, 1), ...feeds]);
    }),
  );
  expect(distance(next.gates, own.gates)).toBeGreaterThan(1e-3);
});
