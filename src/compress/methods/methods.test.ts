import { describe, expect, test } from 'vitest';
import { expertOutputs, layerOf, makeExperts, randomCalibration } from '../../../test/support/experts.js';
import { designBlocks, restoreExpert } from '../../checkpoints/index.js';
import { matrixCompressorNames } from '../matrices/index.js';
import { methodConformance } from '../method.case.js';
import { scopes } from '../matrix-compressor.js';
import { KMeans } from './k-means.js';
import { createMethod, methodSchema } from './index.js';

const compressorUnits = { up: 'weight', svd: 'rank' } as const;

for (const scope of scopes) {
  for (const compressor of matrixCompressorNames) {
    const unit = compressorUnits[compressor];
    methodConformance({ kind: 'direct', compressor, scope }, { unit });
    methodConformance(
      { kind: 'resmoe', residual: compressor, scope },
      { unit, hasCentre: true, merges: true, aligns: true },
    );
  }
}
methodConformance({ kind: 'structuredPruning' }, { unit: 'neuron' });
methodConformance({ kind: 'structuredPruning', norm: 'l1' }, { unit: 'neuron' });
methodConformance({ kind: 'mlpFusion', restarts: 2 }, { unit: 'neuron' });
methodConformance({ kind: 'wanda' }, { unit: 'weightOfOutput' });
methodConformance({ kind: 'expertDropping' }, { unit: 'expert' });
methodConformance({ kind: 'expertDropping', by: 'frequency' }, { unit: 'expert' });
methodConformance({ kind: 'average' }, { unit: 'expert', merges: true });
methodConformance({ kind: 'average', grouping: 'routerWeights' }, { unit: 'expert', merges: true });
methodConformance({ kind: 'gitRebasin' }, { unit: 'expert', merges: true, aligns: true });
methodConformance({ kind: 'mSmoe' }, { unit: 'expert', merges: true, aligns: true });
methodConformance(
  { kind: 'mSmoe', grouping: 'routerWeights' },
  { unit: 'expert', merges: true, aligns: true },
);
methodConformance({ kind: 'meo' }, { unit: 'expert', merges: true });

const make = (options: unknown) => createMethod(methodSchema.parse(options));
const layer = makeExperts({ numExperts: 4, hiddenSize: 3, intermediateSize: 6, spread: Infinity });

describe('structured pruning', () => {
  test('keeps the neurons with the longest rows', async () => {
    const designs = layer.designs.map((design) => design.map((value, i) => value * (1 + Math.floor(i / 6))));
    const { layer: small } = await make({ kind: 'structuredPruning' }).compress(
      layerOf(designs, 3, layer.blocks),
      { budget: { perExpert: 0.5 } },
    );
    const energies = [0, 1, 2, 3, 4, 5].map((row) =>
      designs[0].subarray(row * 6, row * 6 + 6).reduce((sum, value) => sum + value * value, 0),
    );
    const kept = energies.map((_, row) => row).sort((a, b) => energies[b] - energies[a]);
    const wanted = kept.slice(0, 3).sort((a, b) => a - b);
    expect([...restoreExpert(small, 0).subarray(0, 18)]).toEqual(
      wanted.flatMap((row) => [...designs[0].subarray(row * 6, row * 6 + 6)]),
    );
  });
});

describe('Wanda', () => {
  const blocks = designBlocks({ hiddenSize: 2, roles: ['up', 'down'] });
  // Neurons (up | down): within an output of the second matrix, that is a column, neurons compete.
  const design = Float32Array.from([3, 1, 1, 1, 2, 3, 2, 2]);
  const one = layerOf([design], 2, blocks);
  const compress = async (tokens: number, input: number[], hidden: number[]): Promise<number[]> => {
    const calibration = {
      tokensOf: [tokens],
      inputNorms: [Float32Array.from(input)],
      hiddenNorms: [Float32Array.from(hidden)],
      routerLogits: new Float32Array(1),
    };
    const { layer: small } = await make({ kind: 'wanda' }).compress(
      { ...one, calibration },
      { budget: { perExpert: 0.5 } },
    );
    return [...restoreExpert(small, 0)];
  };

  test('weighs a weight with the length of its input, against the others of its output', async () => {
    expect(await compress(5, [1, 10], [10, 1])).toEqual([0, 1, 1, 1, 0, 3, 0, 0]);
    expect(await compress(5, [1, 1], [1, 1])).toEqual([3, 0, 0, 0, 0, 3, 2, 2]);
  });

  test('an expert without tokens is pruned by its weights alone', async () => {
    expect(await compress(0, [0, 0], [0, 0])).toEqual([3, 0, 0, 0, 0, 3, 2, 2]);
  });
});

describe('expert dropping', () => {
  test('keeps the most used, and what is dropped adds nothing', async () => {
    const calibration = { ...randomCalibration(layer), tokensOf: [5, 0, 9, 1] };
    const { layer: small } = await make({ kind: 'expertDropping', by: 'frequency' }).compress(
      { ...layer, calibration },
      { budget: { perExpert: 0.5 } },
    );
    expect(small.expertOf).toEqual([0, -1, 1, -1]);
    expect(restoreExpert(small, 2)).toEqual(layer.designs[2]);
    expect(restoreExpert(small, 3).every((value) => value === 0)).toBe(true);
  });
});

describe('M-SMoE', () => {
  test('groups by router logits around the most used and weighs by use', async () => {
    // Experts 0 and 2 score alike, 1 and 3 do; 2 and 3 are used most.
    const scores = [1, -1, 2, 0.5, -1, 1, 0.25, 2];
    const routerLogits = Float32Array.from(
      [0, 1].flatMap((token) => [
        scores[token * 4],
        scores[token * 4 + 1],
        scores[token * 4 + 2],
        scores[token * 4 + 3],
      ]),
    );
    const calibration = { ...randomCalibration(layer), tokensOf: [1, 2, 3, 6], routerLogits };
    const { layer: small } = await make({ kind: 'mSmoe' }).compress(
      { ...layer, calibration },
      { budget: { perExpert: 0.5 } },
    );
    expect(small.expertOf).toEqual([0, 1, 0, 1]);
    const merged = restoreExpert(small, 0);
    // The sum over all neurons does not depend on their order.
    const columnSum = (design: Float32Array): number =>
      design.reduce((sum, value, i) => sum + (i % 6 === 0 ? value : 0), 0);
    expect(columnSum(merged)).toBeCloseTo(
      (columnSum(layer.designs[0]) + 3 * columnSum(layer.designs[2])) / 4,
      5,
    );
  });
});

describe('MLP-Fusion', () => {
  const neurons = makeExperts({ numExperts: 1, hiddenSize: 4, intermediateSize: 3, spread: Infinity });
  const [base] = neurons.designs;
  // Neuron 0 three times, neuron 1 twice, neuron 2 once.
  const rows = [0, 1, 0, 2, 1, 0].flatMap((row) => [...base.subarray(row * 8, row * 8 + 8)]);
  const repeated = layerOf([Float32Array.from(rows)], 4, neurons.blocks);

  test.each(['count', 'sqrt'] as const)(
    'twins become one neuron that counts for all: %s',
    async (scaling) => {
      const { layer: small, report } = await make({ kind: 'mlpFusion', scaling }).compress(repeated, {
        budget: { perExpert: 0.5 },
      });
      expect(report.error).toBeLessThan(1e-9);
      expect(small.experts[0].matrices[0].rows).toBe(3);
      const [actual, wanted] = [restoreExpert(small, 0), repeated.designs[0]].map((each) =>
        expertOutputs(each, repeated),
      );
      actual.forEach((value, i) => expect(value).toBeCloseTo(wanted[i], 4));
    },
  );

  test('the root of a count is refused for gated experts', async () => {
    const gated = makeExperts({
      numExperts: 1,
      hiddenSize: 2,
      intermediateSize: 4,
      roles: ['gate', 'up', 'down'],
    });
    await expect(
      make({ kind: 'mlpFusion', scaling: 'sqrt' }).compress(gated, { budget: { perExpert: 0.5 } }),
    ).rejects.toThrow('its experts are gated');
  });
});

describe('k-means', () => {
  test('finds clusters that lie apart, and its inertia is that of its clusters', async () => {
    const points = Float32Array.from({ length: 60 }, (_, i) => 100 * (Math.floor(i / 2) % 3) + Math.sin(i));
    const kMeans = await KMeans.open(30, 2, 3, { restarts: 3, maxIterations: 50 });
    const { clusterOf, sizes, centres, inertia } = await kMeans.cluster(points, 1);
    await kMeans.release();
    expect(sizes).toEqual([10, 10, 10]);
    for (let row = 3; row < 30; row++) expect(clusterOf[row]).toBe(clusterOf[row - 3]);
    const direct = points.reduce(
      (sum, value, i) => sum + (value - centres[clusterOf[i >> 1] * 2 + (i % 2)]) ** 2,
      0,
    );
    expect(inertia).toBeCloseTo(direct, 8);
  });

  test('rows that are all the same make one cluster, whatever is wanted', async () => {
    const kMeans = await KMeans.open(5, 2, 3, { restarts: 2, maxIterations: 10 });
    const { sizes, inertia } = await kMeans.cluster(new Float32Array(10).fill(2), 1);
    await kMeans.release();
    expect([sizes, inertia]).toEqual([[5], 0]);
  });
});
