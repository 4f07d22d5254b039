/**
 * What every cache policy must do.
 * @module
 */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  chooseVictim,
  type CachePolicy,
  type ExpertId,
  type PolicySurroundings,
  type RoutedStep,
} from './cache-policy.js';
import { BeladyPolicy } from './policies/belady.js';
import { simulateCache } from './simulate-cache.js';

/** Layers of a small model, and passes through it. */
export const routedPasses = fc
  .record({
    numExperts: fc.array(fc.integer({ min: 1, max: 6 }), { minLength: 1, maxLength: 3 }),
    passes: fc.integer({ min: 1, max: 12 }),
    seed: fc.array(fc.nat(), { minLength: 120, maxLength: 120 }),
  })
  .map(({ numExperts, passes, seed }) => {
    let at = 0;
    const next = (): number => seed[at++ % seed.length] >>> (at % 7);
    const trace: RoutedStep[] = [];
    for (let pass = 0; pass < passes; pass++) {
      for (const [layer, count] of numExperts.entries()) {
        const experts = new Set(Array.from({ length: 1 + (next() % 3) }, () => next() % count));
        trace.push({ layer, experts: [...experts] });
      }
    }
    return { numExperts, trace };
  });

/** Runs the suite over a policy. */
export function cachePolicyConformance(
  name: string,
  create: (surroundings: Required<PolicySurroundings>) => CachePolicy,
): void {
  describe(`cache policy ${name}`, () => {
    const largestStep = (trace: readonly RoutedStep[]): number =>
      Math.max(...trace.map(({ experts }) => experts.length));

    test('compare is an order of what is in memory', () => {
      fc.assert(
        fc.property(routedPasses, fc.integer({ min: 1, max: 8 }), ({ numExperts, trace }, capacity) => {
          const policy = create({ numExperts, trace });
          const resident = new Set<ExpertId>();
          const watched = watch(policy, resident);
          simulateCache({ numExperts, trace, capacity, policy: watched });
          for (const a of resident) {
            expect(policy.compare(a, a)).toBe(0);
            for (const b of resident) {
              expect(Math.sign(policy.compare(a, b)) + Math.sign(policy.compare(b, a))).toBe(0);
              for (const c of resident) {
                if (policy.compare(a, b) <= 0 && policy.compare(b, c) <= 0)
                  expect(policy.compare(a, c)).toBeLessThanOrEqual(0);
              }
            }
          }
        }),
      );
    });

    test('memory is never exceeded, and counts add up', () => {
      fc.assert(
        fc.property(routedPasses, fc.integer({ min: 1, max: 8 }), ({ numExperts, trace }, capacity) => {
          const resident = new Set<ExpertId>();
          let most = 0;
          const policy = watch(create({ numExperts, trace }), resident, () => {
            most = Math.max(most, resident.size);
          });
          const result = simulateCache({ numExperts, trace, capacity, policy, warmUp: 0 });
          expect(most).toBeLessThanOrEqual(capacity);
          expect(result.loads - result.evictions).toBe(resident.size);
          expect(result.loads).toBeGreaterThanOrEqual(result.accesses - result.hits);
          if (largestStep(trace) <= capacity) expect(result.loads).toBe(result.accesses - result.hits);
        }),
      );
    });

    test('with room for all, every expert is loaded once', () => {
      fc.assert(
        fc.property(routedPasses, ({ numExperts, trace }) => {
          const capacity = numExperts.reduce((a, b) => a + b);
          const policy = create({ numExperts, trace });
          const { loads, evictions } = simulateCache({ numExperts, trace, capacity, policy });
          const distinct = new Set(
            trace.flatMap(({ layer, experts }) => experts.map((e) => `${layer}.${e}`)),
          );
          expect([loads, evictions]).toEqual([distinct.size, 0]);
        }),
      );
    });

    test('the same calls give the same evictions', () => {
      fc.assert(
        fc.property(routedPasses, fc.integer({ min: 1, max: 8 }), ({ numExperts, trace }, capacity) => {
          const [first, second] = [0, 1].map(() => {
            const gone: ExpertId[] = [];
            const policy = watch(create({ numExperts, trace }), new Set(), undefined, gone);
            simulateCache({ numExperts, trace, capacity, policy });
            return gone;
          });
          expect(second).toEqual(first);
        }),
      );
    });

    test('does not load less than Belady', () => {
      fc.assert(
        fc.property(routedPasses, fc.integer({ min: 3, max: 8 }), ({ numExperts, trace }, capacity) => {
          const run = (policy: CachePolicy): number =>
            simulateCache({ numExperts, trace, capacity, policy }).loads;
          expect(run(create({ numExperts, trace }))).toBeGreaterThanOrEqual(
            run(new BeladyPolicy(numExperts, trace)),
          );
        }),
      );
    });

    test('the victim is one of the candidates', () => {
      const surroundings = { numExperts: [4], trace: [{ layer: 0, experts: [0, 1, 2] }] };
      const policy = create(surroundings);
      policy.needed(0, [0, 1, 2]);
      for (const expert of [0, 1, 2]) policy.loaded(expert);
      expect(chooseVictim(policy, [])).toBeUndefined();
      expect(chooseVictim(policy, [1])).toBe(1);
      expect([0, 2]).toContain(chooseVictim(policy, [2, 0]));
      expect(chooseVictim(policy, [2, 0])).toBe(chooseVictim(policy, [0, 2]));
    });
  });
}

/** The same policy, with what it believes to be in memory written down. */
function watch(
  policy: CachePolicy,
  resident: Set<ExpertId>,
  changed?: () => void,
  gone: ExpertId[] = [],
): CachePolicy {
  return {
    needed: (layer, experts) => policy.needed(layer, experts),
    loaded: (expert) => {
      resident.add(expert);
      policy.loaded(expert);
      changed?.();
    },
    evicted: (expert) => {
      resident.delete(expert);
      policy.evicted(expert);
      gone.push(expert);
    },
    expected: (expert, due) => policy.expected(expert, due),
    compare: (a, b) => policy.compare(a, b),
  };
}
