import { describe, expect, test } from 'vitest';
import { randomNumbers } from '../../../test/support/gradient-check.js';
import { leafGradientError } from '../../../test/support/leaf-gradients.js';
import { layerContext } from '../../../test/support/moe-context.js';
import { distance, randomParameters, run } from '../../../test/support/numbers.js';
import { referenceExpertChoice } from '../../../test/support/reference-expert-choice.js';
import {
  expertWeights,
  matrix,
  referenceExpert,
  referenceRouting,
  type Matrix,
} from '../../../test/support/reference-moe.js';
import { gradients, input, multiply, square, stopGradient, sum } from '../../graph/index.js';
import { nameParameters, normal } from '../../nn/index.js';
import { weightedSum } from '../combine.js';
import { FeedForwardBank } from '../experts/feed-forward-bank.js';
import { ExpertChoiceRouter } from '../routers/expert-choice.js';
import { SparseLayer } from '../sparse-layer.js';
import { DroplessDispatch } from './dropless.js';

interface Scene {
  readonly tokens?: number;
  readonly numExperts: number;
  readonly topK?: number;
  readonly capacityFactor?: number;
  readonly batchSize?: number;
  readonly mask?: readonly number[];
}

const hiddenSize = 4;
const intermediateSize = 5;

/** A layer in training, where experts choose. */
function trace({ tokens = 9, numExperts, topK = 1, capacityFactor = 1, batchSize = 1, mask }: Scene) {
  const group = batchSize > 1 ? ('sequence' as const) : ('batch' as const);
  const layer = new SparseLayer({
    router: new ExpertChoiceRouter({ hiddenSize, numExperts, topK, capacityFactor, group }, normal(1)),
    dispatch: new DroplessDispatch(),
    experts: new FeedForwardBank(
      { numExperts, hiddenSize, intermediateSize, activation: 'gelu' },
      normal(1),
      normal(1),
    ),
  });
  const parameters = nameParameters(layer, 'float64');
  const hidden = input('hidden', 'float64', [tokens, hiddenSize]);
  const tokenMask = mask && input('mask', 'float64', [tokens]);
  const context = layerContext({ training: true, batchSize, tokenMask });
  const data = randomParameters(parameters, 3, 1);
  const feeds = new Map<string, Float64Array>([
    ...data,
    ['hidden', randomNumbers(4, tokens * hiddenSize)],
    ['mask', Float64Array.from(mask ?? [])],
  ]);
  return { layer, parameters, hidden, context, data, feeds, result: layer.forward(hidden, context) };
}

/** `y_t = Σ_{e that chose t} S_te E_e(x_t)` */
function reference(
  { numExperts, topK = 1, capacityFactor = 1, batchSize = 1, mask }: Scene,
  rows: Matrix,
  data: Map<string, Float64Array>,
) {
  const sizes = { numExperts, topK, hiddenSize, intermediateSize, activation: 'gelu' as const };
  const { probabilities } = referenceRouting(sizes, { hidden: rows, parameters: data });
  const { experts, gates } = referenceExpertChoice(probabilities, {
    topK,
    capacityFactor,
    groups: batchSize,
    mask,
  });
  const output = rows.map((x, t) => {
    const y = x.map(() => 0);
    experts[t].forEach((expert, k) => {
      if (expert < 0) return;
      const made = referenceExpert(x, expertWeights(data, expert, sizes), 'gelu');
      made.forEach((value, i) => (y[i] += gates[t][k] * value));
    });
    return y;
  });
  const load = Array.from({ length: numExperts }, (_, e) => experts.flat().filter((x) => x === e).length);
  return { output, load };
}

const scenes: readonly (readonly [string, Scene])[] = [
  ['an even share', { numExperts: 3 }],
  ['a token for each', { numExperts: 7 }],
  ['more experts than tokens', { tokens: 3, numExperts: 8 }],
  ['two shares', { numExperts: 4, topK: 2, capacityFactor: 1.3 }],
  ['everything', { numExperts: 4, topK: 4 }],
  ['one expert', { numExperts: 1 }],
  ['one token', { tokens: 1, numExperts: 3 }],
  ['sequences', { tokens: 12, numExperts: 3, topK: 2, batchSize: 3 }],
  ['padding', { tokens: 12, numExperts: 3, topK: 2, mask: [0, 1, 1, 0, 1, 1, 1, 0, 0, 0, 1, 1] }],
  [
    'padded sequences',
    { tokens: 12, numExperts: 3, batchSize: 2, mask: [1, 1, 0, 0, 0, 0, 1, 1, 1, 1, 1, 0] },
  ],
  ['nothing but padding', { numExperts: 3, mask: new Array<number>(9).fill(0) }],
  // So many tokens to a place that rows are scattered instead of gathered.
  ['few of many', { tokens: 40, numExperts: 20 }],
];

describe.each(scenes)('expert choice, %s', (_name, scene) => {
  test('the layer equals the plain loops', async () => {
    const { result, data, feeds } = trace(scene);
    const [{ load, dropped }] = result.records;
    const actual = await run({ output: result.output, load, dropped }, feeds);
    const expected = reference(scene, matrix(feeds.get('hidden')!, hiddenSize), data);
    expect(distance(actual.output, expected.output.flat())).toBeLessThan(1e-12);
    expect(actual.load).toEqual(expected.load);
    expect(actual.dropped).toEqual([0]);
  });

  test('its gradients equal finite differences', async () => {
    const { result, parameters, hidden, feeds } = trace(scene);
    const weights = input('weights', 'float64', result.output.shape);
    const error = await leafGradientError(
      sum(multiply(square(result.output), weights)),
      new Map([...parameters].map(([name, { tensor }]) => [name, tensor])).set('hidden', hidden),
      new Map([...feeds, ['weights', randomNumbers(5, (weights.shape[0] as number) * hiddenSize, 0.5, 1.5)]]),
      { samples: 6 },
    );
    expect(error).toBeLessThan(1e-7);
  });

  test('one by one and by dropless dispatch the outputs are the same', async () => {
    const { layer, hidden, context, feeds, result } = trace(scene);
    const routing = layer.router.route(hidden, context);
    const { dispatch: _own, ...asTokensSeeIt } = routing;
    const outputs = [routing.dispatch!, new DroplessDispatch()].map((dispatch) => {
      const dispatched = dispatch.dispatch(hidden, asTokensSeeIt, scene.numExperts, context);
      return weightedSum(dispatched.collect(layer.experts.forward(dispatched.rows, context)), routing.gates);
    });
    const [gradient, other] = [result.output, outputs[1]].map(
      (output) => gradients(sum(square(output)), [hidden])[0],
    );
    const actual = await run(
      { whole: result.output, own: outputs[0], dropless: outputs[1], gradient, other },
      feeds,
    );
    expect(distance(actual.own, actual.whole)).toBeLessThan(1e-12);
    expect(distance(actual.dropless, actual.whole)).toBeLessThan(1e-12);
    expect(distance(actual.gradient, actual.other)).toBeLessThan(1e-12);
  });
});

test('what padding says reaches nothing', async () => {
  const scene = { tokens: 8, numExperts: 3, topK: 2, mask: [0, 1, 1, 0, 0, 1, 0, 1] };
  const { result, parameters, feeds } = trace(scene);
  const weights = [...parameters.values()].map(({ tensor }) => tensor);
  const derived = gradients(sum(square(result.output)), weights);
  const outputs = {
    output: result.output,
    ...Object.fromEntries(derived.map((g, i) => [`gradient ${i}`, stopGradient(g)])),
  };
  const rows = matrix(feeds.get('hidden')!, hiddenSize);
  const changed = rows.map((row, t) => (scene.mask[t] === 1 ? row : row.map((x) => 50 * x + 7)));
  const a = await run(outputs, feeds);
  const b = await run(outputs, new Map(feeds).set('hidden', Float64Array.from(changed.flat())));
  for (const name of Object.keys(a) as (keyof typeof a)[]) {
    expect(distance(b[name], a[name]), name).toBeLessThan(1e-12);
  }
});
