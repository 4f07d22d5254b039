import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { CachePolicy, ExpertId, RoutedStep } from '../cache-policy.js';
import { cachePolicyConformance, routedPasses } from '../cache-policy.case.js';
import { simulateCache } from '../simulate-cache.js';
import { BeladyPolicy } from './belady.js';
import { createPolicy, policyNames } from './index.js';
import { PredictedPolicy } from './predicted.js';

for (const name of policyNames)
  cachePolicyConformance(name, (surroundings) => createPolicy(name, surroundings));

/** Evictions of a trace of one layer whose steps need one expert each, e.g. `AABC`. */
function evictions(policy: CachePolicy, text: string, capacity: number): string {
  let gone = '';
  const trace = steps(text);
  const note: CachePolicy = {
    needed: (layer, experts) => policy.needed(layer, experts),
    loaded: (expert) => policy.loaded(expert),
    evicted: (expert) => {
      gone += String.fromCharCode(65 + expert);
      policy.evicted(expert);
    },
    expected: (expert, due) => policy.expected(expert, due),
    compare: (a, b) => policy.compare(a, b),
  };
  simulateCache({ numExperts: [8], trace, capacity, policy: note });
  return gone;
}

function steps(text: string): RoutedStep[] {
  return [...text].map((letter) => ({ layer: 0, experts: [letter.charCodeAt(0) - 65] }));
}

describe('by hand', () => {
  const trace = steps('ABACDA');
  const surroundings = { numExperts: [8], trace };
  test.each([
    // A B, A used again: C takes A's place, being oldest; D takes B's; A again takes C's.
    ['fifo', 'ABC'],
    // C takes B's, D takes A's or C's: A was used at step 2, C at step 3.
    ['lru', 'BAC'],
    // A has two uses and stays; C goes for D, and A is there.
    ['lfu', 'BC'],
    ['belady', 'BC'],
    ['static', 'BC'],
  ] as const)('%s', (name, expected) => {
    expect(evictions(createPolicy(name, surroundings), 'ABACDA', 2)).toBe(expected);
  });

  test('layered: the layer that was just used gives way', () => {
    const policy = createPolicy('layered', { numExperts: [2, 2, 2] });
    policy.needed(0, [0]);
    policy.loaded(0);
    policy.needed(1, [2]);
    policy.loaded(2);
    policy.loaded(4);
    // In layer 1: its own come again after three layers, those of layer 0 after two, of layer 2 next.
    expect(policy.compare(2, 0)).toBeLessThan(0);
    expect(policy.compare(0, 4)).toBeLessThan(0);
  });

  test('predictedLfu: of what nobody expects, the least used', () => {
    const policy = createPolicy('predictedLfu', { numExperts: [3] });
    for (const expert of [0, 1, 2]) policy.loaded(expert);
    policy.needed(0, [0, 1]);
    policy.needed(0, [1]);
    policy.expected(2, 1);
    expect(policy.compare(0, 1)).toBeLessThan(0);
    expect(policy.compare(1, 2)).toBeLessThan(0);
    policy.expected(2, undefined);
    expect(policy.compare(2, 0)).toBeLessThan(0);
  });

  test('predicted: what nobody expects first, then what is due last', () => {
    const policy = new PredictedPolicy();
    for (const expert of [0, 1, 2, 3]) policy.loaded(expert);
    policy.expected(0, 1);
    policy.expected(1, 2);
    const order = (): ExpertId[] => [0, 1, 2, 3].sort((a, b) => policy.compare(a, b));
    expect(order()).toEqual([2, 3, 1, 0]);
    policy.expected(1, undefined);
    expect(order()).toEqual([1, 2, 3, 0]);
  });
});

test('policies that need a trace say so', () => {
  expect(() => createPolicy('belady', { numExperts: [2] })).toThrow('needs the routing trace');
  expect(() => createPolicy('static', { numExperts: [2] })).toThrow('needs a routing trace');
});

test('static begins with the most popular', () => {
  const trace = steps('CABCCA');
  const policy = createPolicy('static', { numExperts: [4], trace });
  expect(policy.placement).toEqual([2, 0, 1, 3]);
  expect(simulateCache({ numExperts: [4], trace, capacity: 2, policy, placed: true, warmUp: 0 }).hits).toBe(
    4,
  );
});

test('an oracle of other passes is refused', () => {
  const policy = new BeladyPolicy([3], steps('AB'));
  policy.needed(0, [0]);
  expect(() => policy.needed(0, [2])).toThrow('step 1 is not that of the trace');
  // What follows the trace is unknown, not wrong.
  const past = new BeladyPolicy([3], []);
  expect(() => past.needed(0, [2])).not.toThrow();
});

/** The fewest loads that any choice of victims needs, by trying all. */
function fewestLoads(numExperts: readonly number[], trace: readonly RoutedStep[], capacity: number): number {
  const firsts = numExperts.map((_, layer) => numExperts.slice(0, layer).reduce((a, b) => a + b, 0));
  const wanted = trace.map(({ layer, experts }) => experts.map((expert) => firsts[layer] + expert));
  const known = new Map<string, number>();
  const from = (step: number, resident: readonly ExpertId[]): number => {
    if (step === wanted.length) return 0;
    const key = `${step}:${resident.join()}`;
    const found = known.get(key);
    if (found !== undefined) return found;
    const missing = wanted[step].filter((id) => !resident.includes(id));
    const others = resident.filter((id) => !wanted[step].includes(id));
    const keep = Math.min(others.length, capacity - wanted[step].length);
    let best = Infinity;
    for (const kept of subsets(others, keep))
      best = Math.min(
        best,
        from(
          step + 1,
          [...wanted[step], ...kept].sort((a, b) => a - b),
        ),
      );
    known.set(key, missing.length + best);
    return missing.length + best;
  };
  return from(0, []);
}

function subsets(items: readonly number[], size: number): number[][] {
  if (size === 0) return [[]];
  return items.flatMap((item, at) => subsets(items.slice(at + 1), size - 1).map((rest) => [item, ...rest]));
}

test('Belady loads as little as any choice of victims could', () => {
  fc.assert(
    fc.property(routedPasses, fc.integer({ min: 3, max: 5 }), ({ numExperts, trace }, capacity) => {
      const short = trace.slice(0, 14);
      const policy = new BeladyPolicy(numExperts, short);
      const { loads } = simulateCache({ numExperts, trace: short, capacity, policy });
      expect(loads).toBe(fewestLoads(numExperts, short, capacity));
    }),
    { numRuns: 60 },
  );
});

test('hit rates are those after the warm-up, active share that of the steps', () => {
  const trace = steps('AABB');
  const result = simulateCache({
    numExperts: [4],
    trace,
    capacity: 1,
    policy: createPolicy('lru', { numExperts: [4] }),
  });
  // A misses in the warm-up of one access; then A hits, B misses, B hits.
  expect(result).toMatchObject({
    accesses: 4,
    hits: 2,
    loads: 2,
    evictions: 1,
    hitRate: 2 / 3,
    activeShare: 1 / 4,
  });
});
