import { expect, test } from 'vitest';
import { layerContext, layerSizes } from '../../../../test/support/moe-context.js';
import { randomParameters, run } from '../../../../test/support/numbers.js';
import { constant, input } from '../../../graph/index.js';
import { nameParameters, RandomStream, streamKey } from '../../../nn/index.js';
import { adaptiveClustering } from '../adaptive-clustering.js';

test('on a mixture whose clusters are tight along features of their own, fewer tokens go to a wrong centre', async () => {
  const numClusters = 4;
  const features = 12;
  const perCluster = 150;
  /** Share of tokens whose nearest centre is not their own cluster's, by `‖(h − μ_k) ∘ √W‖` with W of the router. */
  const misassigned = async (tight: number, loose: number): Promise<{ plain: number; clustered: number }> => {
    const random = new RandomStream(streamKey(5, 'mixture'));
    const normal = (): number =>
      Math.sqrt(-2 * Math.log(1 - random.uniform())) * Math.cos(2 * Math.PI * random.uniform());
    const centres = Array.from({ length: numClusters }, () =>
      Array.from({ length: features }, () => 0.6 * normal()),
    );
    const labels = Array.from({ length: numClusters * perCluster }, (_, t) => t % numClusters);
    const tokens = labels.map((k) =>
      centres[k].map((centre, q) => centre + (q % numClusters === k ? tight : loose) * normal()),
    );
    const router = adaptiveClustering.create(
      adaptiveClustering.schema.parse({
        kind: 'adaptiveClustering',
        preset: 'paper',
        applyTo: 'router+experts',
      }),
      {
        ...layerSizes(features),
        numLayers: 2,
        layerIndex: 1,
        sparseIndex: 1,
        numExperts: numClusters,
        topK: 1,
      },
    );
    const parameters = nameParameters(router, 'float64');
    const hidden = input('hidden', 'float64', [tokens.length, features]);
    const experts = input('before', 'int32', [tokens.length, 1]);
    const gates = input('gatesBefore', 'float64', [tokens.length, 1]);
    const nothing = constant('int32', [1], [0]);
    const previousRecord = {
      name: '0',
      layerIndex: 0,
      firstExpert: 0,
      numExperts: numClusters,
      topK: 1,
      experts,
      gates,
      probabilities: gates,
      load: nothing,
      dropped: nothing,
      losses: [],
    };
    const { expertInput } = router.route(hidden, layerContext({ layerIndex: 1, previousRecord }));
    const { seen } = await run({ seen: expertInput! }, [
      ...randomParameters(parameters, 1, 1),
      ['hidden', tokens.flat()],
      ['before', Int32Array.from(labels)],
    ]);
    const wrong = (weight: (t: number, q: number) => number): number => {
      const missed = tokens.filter((row, t) => {
        const distances = centres.map((centre) =>
          row.reduce((total, x, q) => total + (weight(t, q) * (x - centre[q])) ** 2, 0),
        );
        return distances.indexOf(Math.min(...distances)) !== labels[t];
      });
      return missed.length / tokens.length;
    };
    return {
      plain: wrong(() => 1),
      clustered: wrong((t, q) => seen[t * features + q] / tokens[t][q]),
    };
  };
  const uneven = await misassigned(0.2, 1.5);
  expect(uneven.plain).toBeGreaterThan(0.15);
  expect(uneven.clustered).toBeLessThan(uneven.plain / 3);
  const even = await misassigned(0.8, 0.8);
  expect(even.plain).toBeGreaterThan(0.02);
  expect(Math.abs(even.clustered - even.plain)).toBeLessThan(0.02);
});
