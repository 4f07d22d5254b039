import { describe, expect, test } from 'vitest';
import { layerSizes } from '../../../../test/support/moe-context.js';
import type { RouterModule } from '../../router.js';
import { adaptiveClustering } from '../adaptive-clustering.js';
import { clusteringPresets, resolveClustering } from './settings.js';

const parse = (options: Readonly<Record<string, unknown>>) =>
  adaptiveClustering.schema.parse({ kind: 'adaptiveClustering', ...options });

const create = (options: Readonly<Record<string, unknown>>): RouterModule =>
  adaptiveClustering.create(parse(options), {
    ...layerSizes(),
    numLayers: 4,
    layerIndex: 1,
    sparseIndex: 1,
    numExperts: 6,
    topK: 2,
  });

describe('settings', () => {
  test('presets fill in what is not given', () => {
    expect(resolveClustering(parse({}))).toEqual(clusteringPresets.robust);
    expect(resolveClustering(parse({ preset: 'released-lm', clip: null, eps: 0.1 }))).toEqual({
      ...clusteringPresets['released-lm'],
      clip: null,
      eps: 0.1,
    });
  });

  test('what leaks', () => {
    expect(create({}).leak).toBeUndefined();
    expect(create({ stats: 'prefix' }).leak).toBeUndefined();
    expect(create({ preset: 'paper', weights: 'ones' }).leak).toBeUndefined();
    expect(create({ preset: 'paper', layers: [] }).leak).toBeUndefined();
    for (const preset of ['released-lm', 'released-vision', 'paper']) {
      expect(create({ preset }).leak).toBe(
        "clusters are measured over the whole batch, later tokens included; use stats 'running' or 'prefix'",
      );
    }
  });

  test.each([
    [{ stats: 'prefix', dispersion: 'pairwise' }, /dispersion.*\n?.*use 'mad' or 'var'/s],
    [{ gateBalanceCoefficient: 0.01 }, /set inner.balanceCoefficient instead/],
    [{ inner: { kind: 'adaptiveClustering' } }, /inner/],
    [{ minMembers: -1 }, /minMembers/],
    [{ layers: [0] }, /layers/],
  ])('%o is refused', (options, message) => expect(() => parse(options)).toThrow(message));

  test('a layer that the model does not have is refused', () =>
    expect(() => create({ layers: [1, 4] })).toThrow(
      'adaptiveClustering.layers: there is no sparse layer 4; the model has 4, counted from 0',
    ));
});
