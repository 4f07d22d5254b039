import { describe, expect, test } from 'vitest';
import { randomNumbers } from '../../test/support/gradient-check.js';
import { distance, randomParameters, run } from '../../test/support/numbers.js';
import {
  createLayer,
  dispatches,
  hiddenSize,
  intermediateSize,
  traceLayer,
} from '../../test/support/small-layer.js';
import { concat, gradients, input, sum } from '../graph/index.js';
import { normal } from '../nn/index.js';
import { CapacityDispatch } from './dispatch/capacity.js';
import { DroplessDispatch } from './dispatch/dropless.js';
import { FeedForwardBank } from './experts/feed-forward-bank.js';
import { SoftmaxTopKRouter } from './routers/softmax-top-k.js';
import { SparseLayer } from './sparse-layer.js';

describe('edge cases of Switch Transformer', () => {
  test('a single token', async () => {
    for (const [name, dispatch] of dispatches) {
      const { parameters, output, records } = traceLayer(createLayer({ dispatch }), 1);
      const actual = await run({ output, load: records[0].load, dropped: records[0].dropped }, [
        ...randomParameters(parameters, 1, 1),
        ['hidden', randomNumbers(2, 4)],
      ]);
      expect(
        actual.output.some((value) => value !== 0),
        name,
      ).toBe(true);
      expect([actual.dropped, actual.load.reduce((a, b) => a + b)], name).toEqual([[0], 1]);
    }
  });

  test.each([
    [1, 2, [1, 0, 0, 0, 0, 0, 0, 0]],
    [4, 0, [3, 0, 0, 0, 0, 0, 0, 0]],
  ])(
    'fewer tokens than experts at factor 1: minimum capacity %i drops %i of 3',
    async (minimumCapacity, drops) => {
      const dispatch = new CapacityDispatch({ capacityFactor: 1, minimumCapacity });
      const { parameters, output, records } = traceLayer(createLayer({ numExperts: 8, dispatch }), 3);
      const data = randomParameters(parameters, 1, 1);
      data.get('router.classifier.weight')!.fill(0);
      const actual = await run({ output, dropped: records[0].dropped, load: records[0].load }, [
        ...data,
        ['hidden', randomNumbers(2, 12)],
      ]);
      expect(actual.dropped).toEqual([drops]);
      expect(actual.load).toEqual([3, 0, 0, 0, 0, 0, 0, 0]);
      const silent = [0, 1, 2].filter((t) =>
        actual.output.slice(4 * t, 4 * t + 4).every((value) => value === 0),
      );
      expect(silent).toEqual(drops === 0 ? [] : [1, 2]);
    },
  );

  test('decoding one token per sequence with places per sequence drops nothing', async () => {
    const dispatch = new CapacityDispatch({ capacityFactor: 1, minimumCapacity: 1, group: 'sequence' });
    const { parameters, records } = traceLayer(createLayer({ dispatch }), 6, { batchSize: 6 });
    const data = randomParameters(parameters, 1, 1);
    data.get('router.classifier.weight')!.fill(0);
    const actual = await run({ dropped: records[0].dropped }, [...data, ['hidden', randomNumbers(2, 24)]]);
    expect(actual.dropped).toEqual([0]);
  });

  test('a routing override replaces the decision and its losses', async () => {
    const experts = input('chosen', 'int64', [3, 1]);
    const gates = input('weights', 'float64', [3, 1]);
    const { parameters, output, losses, records } = traceLayer(createLayer({}), 3, {
      routingOverride: { experts, gates },
    });
    expect(losses).toEqual([]);
    const data = randomParameters(parameters, 1, 1);
    data.delete('router.classifier.weight');
    const feeds = [...data, ['hidden', randomNumbers(2, 12)] as const];
    const chosen = ['chosen', BigInt64Array.from([3n, 3n, 1n])] as const;
    const once = await run({ output, experts: records[0].experts }, [
      ...feeds,
      chosen,
      ['weights', [1, 1, 1]],
    ]);
    const twice = await run({ output }, [...feeds, chosen, ['weights', [2, 0, 2]]]);
    expect(once.experts).toEqual([3, 3, 1]);
    expect(
      distance(
        twice.output,
        once.output.map((value, i) => (i >= 4 && i < 8 ? 0 : 2 * value)),
      ),
    ).toBeLessThan(1e-12);
    // A token may be given to nobody; the others do not notice.
    const nobody = ['chosen', BigInt64Array.from([3n, -1n, 1n])] as const;
    const without = await run({ output, load: records[0].load }, [...feeds, nobody, ['weights', [1, 1, 1]]]);
    expect(without.load).toEqual([0, 1, 0, 1]);
    expect(
      distance(
        without.output,
        once.output.map((value, i) => (i >= 4 && i < 8 ? 0 : value)),
      ),
    ).toBeLessThan(1e-12);
  });

  test('jitter reaches the router; the experts see the clean input', async () => {
    const layer = createLayer({ numExperts: 1, topK: 1, jitter: 0.5 });
    const noisy = traceLayer(layer, 5, { training: true });
    const data = randomParameters(noisy.parameters, 1, 1);
    const feeds = [...data, ['hidden', randomNumbers(2, 20)] as const];
    // One expert: the gate is 1 whatever the router saw, so any noise in the output came through the expert.
    const a = await run({ output: noisy.output, z: noisy.losses[1].value }, [
      ...feeds,
      ['noise.layer.router', randomNumbers(3, 20, 0, 1)],
    ]);
    const clean = traceLayer(layer, 5);
    const b = await run({ output: clean.output, z: clean.losses[1].value }, feeds);
    expect(a.output).toEqual(b.output);
    expect(distance(a.z, b.z)).toBeGreaterThan(1e-3);
  });

  test('the record watches: no gradient comes back through it', async () => {
    const { parameters, records } = traceLayer(createLayer({}), 3);
    const [gradient] = gradients(sum(records[0].gates), [parameters.get('router.classifier.weight')!.tensor]);
    const data = randomParameters(parameters, 1, 1);
    const actual = await run({ gradient: gradient }, [...data, ['hidden', randomNumbers(2, 12)]]);
    expect(actual.gradient).toEqual(new Array<number>(16).fill(0));
  });

  test('router and bank must agree on the number of experts', () => {
    const router = new SoftmaxTopKRouter({ hiddenSize, numExperts: 4, topK: 1 }, normal(1));
    const sizes = { numExperts: 5, hiddenSize, intermediateSize, activation: 'relu' } as const;
    const experts = new FeedForwardBank(sizes, normal(1), normal(1));
    expect(() => new SparseLayer({ router, experts, dispatch: new DroplessDispatch() })).toThrow(
      'the router knows 4 experts but the bank has 5',
    );
  });

  test('another combination may stand in the fourth socket', async () => {
    const parts = createLayer({ topK: 2 });
    const layer = new SparseLayer({
      router: parts.router,
      experts: parts.experts,
      dispatch: new DroplessDispatch(),
      combine: (outputs) => concat([sum(outputs, 1)], 0),
    });
    const { parameters, output } = traceLayer(layer, 3);
    const data = randomParameters(parameters, 1, 1);
    const feeds = [...data, ['hidden', randomNumbers(2, 12)] as const];
    const summed = await run({ output }, feeds);
    const weighted = await run({ output: traceLayer(parts, 3).output }, feeds);
    expect(distance(summed.output, weighted.output)).toBeGreaterThan(1e-3);
  });
});
