import { expect, test } from 'vitest';
import { layerOf, traceOf } from '../../test/support/routing-trace.js';
import { capacityDemand } from './capacity-demand.js';

test('strata of one layer are counted together, by class, place and token', () => {
  // Sixteen tokens in one sequence: the first half passes one stratum, the second both.
  // Four and twelve experts, numbered through: the second gate does not see the first four.
  const second = Array.from({ length: 16 }, (_, t) => [t < 8 ? -1 : 4]);
  const strata = [
    layerOf('3.0', 16, new Array<number[]>(16).fill([1])),
    layerOf('3.1', 16, second, undefined, 4),
  ];
  const plain = layerOf('5', 4, new Array<number[]>(16).fill([0]));
  const texts = second.map((_, t) => (t < 8 ? 'the' : 'zebra'));
  const classes = second.map((_, t) => (t % 2 === 0 ? 'en' : 'de'));
  expect(capacityDemand(traceOf([...strata, plain], 16), texts, classes)).toEqual([
    {
      layerIndex: 3,
      strata: ['3.0', '3.1'],
      mean: 1.5,
      uniform: 1.25,
      counts: [0, 8, 8],
      byClass: [
        { name: 'en', mean: 1.5, count: 8 },
        { name: 'de', mean: 1.5, count: 8 },
      ],
      byPosition: ['0–1', '2–3', '4–5', '6–7', '8–9', '10–11', '12–13', '14–15'].map((name, i) => ({
        name,
        mean: i < 4 ? 1 : 2,
        count: 2,
      })),
      highest: [
        { name: 'zebra', mean: 2, count: 8 },
        { name: 'the', mean: 1, count: 8 },
      ],
      lowest: [
        { name: 'the', mean: 1, count: 8 },
        { name: 'zebra', mean: 2, count: 8 },
      ],
    },
  ]);
});

test('strata that no token comes to keep their size', () => {
  const nobody = [[-1], [-1]];
  const [demand] = capacityDemand(
    traceOf(
      [
        layerOf('1.0', 16, [[15], [14]]),
        layerOf('1.1', 16, nobody, undefined, 4),
        layerOf('1.2', 16, nobody, undefined, 8),
      ],
      2,
    ),
    ['a', 'b'],
    ['x', 'x'],
  );
  expect(demand).toMatchObject({ mean: 1, counts: [0, 2, 0, 0] });
  // Four, four, eight.
  expect(demand.uniform).toBeCloseTo(1 + 1 / 4 + (1 / 4) * (1 + 1 / 3), 12);
});

test('tokens seen fewer than five times are not listed; a context shorter than eight keeps its places', () => {
  const strata = [layerOf('0.0', 2, [[0], [1], [0]]), layerOf('0.1', 2, [[0], [-1], [-1]])];
  const [demand] = capacityDemand(traceOf(strata, 3), ['a', 'b', 'a'], ['x', 'x', 'x']);
  expect(demand.highest).toEqual([]);
  expect(demand.byPosition).toEqual([
    { name: '0', mean: 2, count: 1 },
    { name: '1', mean: 1, count: 1 },
    { name: '2', mean: 1, count: 1 },
  ]);
});
