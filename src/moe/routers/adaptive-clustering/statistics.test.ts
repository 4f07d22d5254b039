import { describe, expect, test } from 'vitest';
import { randomNumbers } from '../../../../test/support/gradient-check.js';
import { distance, run } from '../../../../test/support/numbers.js';
import {
  prefixOf,
  referenceClusterWeights,
  referencePrefixStatistics,
  referenceStatistics,
  referenceTokenWeights,
  type ReferenceAssignment,
  type ReferenceClustering,
} from '../../../../test/support/reference-clustering.js';
import { matrix } from '../../../../test/support/reference-moe.js';
import { constant, input, type Tensor } from '../../../graph/index.js';
import { batchStatistics, prefixStatistics } from './dispersion.js';
import { clusterWeights, nextCluster, tokenWeights } from './weights.js';

const base: ReferenceClustering = {
  dispersion: 'mad',
  eps: 1e-4,
  clip: 10,
  scale: 'perFeature',
  scaleMean: 'postClip',
  label: 'top1',
  minMembers: 2,
};

/** Twelve tokens of four features in clusters of 5, 4, 0, 1 and 0 members, two without; expert 3 is a second choice. */
const first = [0, 1, 0, 0, 3, 1, -1, 1, 0, 1, 0, -1];
const scene: ReferenceAssignment = {
  hidden: matrix(randomNumbers(1, 12 * 4, -2, 2), 4),
  experts: first.map((expert, t) => [expert, expert < 0 ? -1 : [1, 0, 3][t % 3]]),
  gates: matrix(randomNumbers(2, 24, 0.1, 1), 2),
  numClusters: 5,
};

function trace({ hidden, experts, gates, numClusters }: ReferenceAssignment) {
  const rows = input('hidden', 'float64', [hidden.length, hidden[0].length]);
  const labels = {
    experts: constant('int32', [experts.length, experts[0].length], experts.flat()),
    gates: input('gates', 'float64', [experts.length, experts[0].length]),
  };
  const feeds = [['hidden', hidden.flat()] as const, ['gates', gates.flat()] as const];
  return { assignment: { hidden: rows, experts: labels.experts, numClusters }, labels, feeds };
}

async function actualWeights(
  some: ReferenceAssignment,
  settings: ReferenceClustering,
  batchSize?: number,
): Promise<number[]> {
  const { assignment, labels, feeds } = trace(some);
  const statistics =
    batchSize === undefined
      ? batchStatistics(assignment, settings)
      : prefixStatistics(assignment, settings, batchSize);
  const weights = tokenWeights(clusterWeights(statistics, settings), labels, settings.label);
  return (await run({ weights }, feeds)).weights;
}

const variants: readonly (readonly [string, Partial<ReferenceClustering>])[] = [
  ['mean absolute deviation', {}],
  ['variance', { dispersion: 'var', eps: 0.1, clip: null, scale: 'none' }],
  ['pairwise', { dispersion: 'pairwise' }],
  ['no clip', { clip: null, scale: 'global' }],
  ['a clip that bites', { clip: 1.1, scale: 'global' }],
  ['the mean before the clip', { clip: 1.1, scale: 'global', scaleMean: 'preClip' }],
  ['per feature before the clip', { clip: 1.1, scaleMean: 'preClip' }],
  ['mixed labels', { label: 'mixed' }],
  ['empty clusters kept', { minMembers: 0 }],
  ['empty clusters kept, all pairs', { minMembers: 0, dispersion: 'pairwise', scale: 'global', clip: 1.5 }],
  ['singletons kept', { minMembers: 1 }],
  ['five members at least', { minMembers: 5 }],
  ['more members than there are', { minMembers: 99 }],
];

describe.each(variants)('weights, %s', (_name, changes) => {
  const settings = { ...base, ...changes };

  test('of the batch equal the plain loops', async () => {
    const weights = referenceClusterWeights(referenceStatistics(scene, settings), settings);
    const expected = referenceTokenWeights(() => weights, scene, settings.label);
    expect(distance(await actualWeights(scene, settings), expected.flat())).toBeLessThan(1e-10);
  });

  test.skipIf(settings.dispersion === 'pairwise')('of prefixes equal the plain loops', async () => {
    for (const batchSize of [1, 3]) {
      const expected = referenceTokenWeights(
        (t) =>
          referenceClusterWeights(
            referencePrefixStatistics(prefixOf(scene, t, batchSize), settings),
            settings,
          ),
        scene,
        settings.label,
      );
      const actual = await actualWeights(scene, settings, batchSize);
      expect(distance(actual, expected.flat()), `${batchSize} sequences`).toBeLessThan(1e-10);
    }
  });
});

test('by hand: two clusters, each tight along another feature', async () => {
  const settings: ReferenceClustering = { ...base, eps: 1e-9, clip: null, scale: 'none' };
  const two: ReferenceAssignment = {
    hidden: [
      [1, 10],
      [3, 30],
      [0, 7],
      [8, 9],
    ],
    experts: [[0], [0], [1], [1]],
    gates: [[1], [1], [1], [1]],
    numClusters: 2,
  };
  // Deviations of cluster 0 are 1 and 10, of cluster 1 4 and 1.
  expect(distance(await actualWeights(two, settings), [1, 0.1, 1, 0.1, 0.25, 1, 0.25, 1])).toBeLessThan(1e-6);
  // Means per feature over clusters: 0.625 and 0.55.
  const scaled = [1 / 0.625, 0.1 / 0.55, 0.25 / 0.625, 1 / 0.55];
  expect(
    distance(await actualWeights(two, { ...settings, scale: 'perFeature' }), [
      scaled[0],
      scaled[1],
      scaled[0],
      scaled[1],
      scaled[2],
      scaled[3],
      scaled[2],
      scaled[3],
    ]),
  ).toBeLessThan(1e-6);
  // Pairs are 2 and 20 apart, 8 and 2.
  expect(
    distance(
      await actualWeights(two, { ...settings, dispersion: 'pairwise' }),
      [0.5, 0.05, 0.5, 0.05, 0.125, 0.5, 0.125, 0.5],
    ),
  ).toBeLessThan(1e-6);
});

describe('guards', () => {
  /** Sixteen clusters of twenty members with s ≈ 0.4 … 1, of which one is empty (or has one member). */
  const many = (members: number): ReferenceAssignment => {
    const experts = Array.from({ length: 300 + members }, (_, t) => [t < 300 ? t % 15 : 15]);
    return {
      // The last column of choices makes sure that the release sees sixteen clusters.
      experts: experts.map(([expert], t) => [expert, t === 0 ? 15 : (expert + 1) % 15]),
      gates: experts.map(() => [0.5, 0.5]),
      hidden: matrix(randomNumbers(9, experts.length * 8, -1.5, 1.5), 8),
      numClusters: 16,
    };
  };
  const occupied = (weights: readonly number[]): number => Math.max(...weights.slice(0, 300 * 8));

  test('one empty or singleton cluster crushes all weights of the release, and none of the guarded ones', async () => {
    for (const members of [0, 1]) {
      const some = many(members);
      expect(occupied(await actualWeights(some, { ...base, minMembers: 0 }))).toBeLessThan(0.01);
      const vision = { ...base, minMembers: 0, clip: 1.5, scale: 'global', scaleMean: 'preClip' } as const;
      expect(occupied(await actualWeights(some, vision))).toBeLessThan(0.01);
      const guarded = await actualWeights(some, base);
      expect(Math.min(...guarded)).toBeGreaterThan(0.5);
      expect(Math.max(...guarded)).toBeLessThan(2);
      if (members === 1) expect(guarded.slice(300 * 8)).toEqual(new Array<number>(8).fill(1));
    }
  });

  test('a feature that is constant inside a cluster is held back by the clip', async () => {
    const flat: ReferenceAssignment = {
      ...scene,
      hidden: scene.hidden.map((row, t) => (first[t] === 0 ? [0.25, ...row.slice(1)] : row)),
    };
    const free = await actualWeights(flat, { ...base, clip: null, scale: 'none' });
    expect(Math.max(...free)).toBeCloseTo(1e4, -1);
    const cut = await actualWeights(flat, { ...base, clip: 1.5, scale: 'global' });
    expect(Math.max(...cut)).toBeLessThan(8);
    expect(cut.every(Number.isFinite)).toBe(true);
  });

  test('clusters above the highest choice do not count, in the release either', async () => {
    const settings = { ...base, minMembers: 0 };
    const wide = { ...scene, numClusters: 9 };
    // Expert 3 is the highest of all choices: four clusters, whatever the number of experts.
    expect(await actualWeights(wide, settings)).toEqual(await actualWeights(scene, settings));
    const higher = { ...scene, experts: scene.experts.map((row, t) => (t === 0 ? [row[0], 4] : row)) };
    expect(
      distance(await actualWeights(higher, settings), await actualWeights(scene, settings)),
    ).toBeGreaterThan(0.01);
  });

  test('one token weighs exactly 1', async () => {
    const one: ReferenceAssignment = {
      hidden: [[0.3, -2, 5]],
      experts: [[2, 0]],
      gates: [[0.7, 0.3]],
      numClusters: 4,
    };
    for (const settings of [
      base,
      { ...base, minMembers: 0 },
      { ...base, minMembers: 0, scale: 'global' } as const,
    ]) {
      for (const batchSize of [undefined, 1]) {
        for (const label of ['top1', 'mixed'] as const) {
          const actual = await actualWeights(one, { ...settings, label }, batchSize);
          expect(distance(actual, [1, 1, 1])).toBeLessThan(1e-12);
          if (settings.minMembers === 2 && label === 'top1') expect(actual).toEqual([1, 1, 1]);
        }
      }
    }
  });

  test('tokens without an expert weigh 1 and count nowhere', async () => {
    const weights = matrix(await actualWeights(scene, base), 4);
    for (const t of [6, 11]) expect(weights[t]).toEqual([1, 1, 1, 1]);
    const louder = {
      ...scene,
      hidden: scene.hidden.map((row, t) => (first[t] < 0 ? row.map((x) => 1e6 * x) : row)),
    };
    for (const dispersion of ['mad', 'pairwise'] as const) {
      const quiet = await actualWeights(scene, { ...base, dispersion });
      expect(distance(await actualWeights(louder, { ...base, dispersion }), quiet)).toBeLessThan(1e-12);
    }
    const nobody = { ...scene, experts: scene.experts.map(() => [-1, -1]) };
    for (const minMembers of [0, 2]) {
      const actual = await actualWeights(nobody, { ...base, minMembers });
      expect(actual).toEqual(new Array<number>(48).fill(1));
    }
  });
});

test('permuted labels look up the next cluster', async () => {
  const { labels, feeds } = trace(scene);
  const next: Tensor = nextCluster(labels, 5).experts;
  const { experts } = await run({ experts: next }, feeds);
  expect(experts).toEqual(scene.experts.flat().map((expert) => (expert < 0 ? -1 : (expert + 1) % 5)));
});
