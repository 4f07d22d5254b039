import { expect, test } from 'vitest';
import { makeExperts } from '../../../test/support/experts.js';
import { AssignmentSolver } from '../../metrics/index.js';
import { fillNormal, streamKey } from '../../nn/index.js';
import { centreConformance, findCentre } from '../centre.case.js';
import { redundancyOf } from '../redundancy.js';
import { NeuronMatcher } from './matching.js';

centreConformance('mean', false);
centreConformance('gitRebasin', true);
centreConformance('barycenter', true);

const ratioOf = async (options: unknown, layer: ReturnType<typeof makeExperts>): Promise<number> => {
  const { energies, residuals } = await findCentre(options, layer);
  return redundancyOf(energies, residuals).ratio;
};
/** Many experts with short rows: a neuron is easily taken for another, so that it takes several turns. */
const many = { numExperts: 12, hiddenSize: 4, intermediateSize: 64 };
const sizes = { numExperts: 6, hiddenSize: 24, intermediateSize: 64 };

test('the barycenter is nearest, weight matching next, the plain average far off once neurons are shuffled', async () => {
  for (const seed of [1, 2, 3]) {
    const layer = makeExperts({ ...many, spread: 0.6, shuffled: true, seed });
    const barycenter = await ratioOf({ kind: 'barycenter' }, layer);
    const gitRebasin = await ratioOf({ kind: 'gitRebasin' }, layer);
    const mean = await ratioOf({ kind: 'mean' }, layer);
    expect(barycenter).toBeLessThan(gitRebasin);
    expect(gitRebasin).toBeLessThan(mean);
    expect(mean).toBeCloseTo(1 - 1 / 12, 1);
  }
});

test('experts in one order, near a common ancestor: the average is as good', async () => {
  const layer = makeExperts({ ...sizes, spread: 0.1 });
  const barycenter = await ratioOf({ kind: 'barycenter' }, layer);
  expect(barycenter).toBeCloseTo(await ratioOf({ kind: 'mean' }, layer), 6);
  // Of the noise, the mean takes a part of 1/N.
  expect(barycenter).toBeCloseTo(((0.1 ** 2 / (1 + 0.1 ** 2)) * 5) / 6, 3);
});

test('where it starts matters little', async () => {
  const layer = makeExperts({ ...sizes, spread: 0.7, shuffled: true });
  const ratios = await Promise.all(
    [0, 1, 2, 3, 4, 5].map((initialExpert) => ratioOf({ kind: 'barycenter', initialExpert }, layer)),
  );
  expect(Math.max(...ratios) / Math.min(...ratios)).toBeLessThan(1.02);
});

test('experts with nothing in common gain little', async () => {
  const layer = makeExperts({ ...sizes, spread: Infinity });
  const mean = await ratioOf({ kind: 'mean' }, layer);
  expect(mean).toBeCloseTo(1 - 1 / 6, 2);
  const barycenter = await ratioOf({ kind: 'barycenter' }, layer);
  expect(barycenter).toBeLessThan(mean);
  expect(barycenter).toBeGreaterThan(0.6);
});

test('at the end the residuals of all experts cancel, and the objective has never risen', async () => {
  const layer = makeExperts({ ...many, spread: 0.6, shuffled: true });
  const { centre, permutations, objective } = await findCentre({ kind: 'barycenter' }, layer);
  expect(objective.length).toBeGreaterThan(2);
  for (let i = 1; i < objective.length; i++) expect(objective[i]).toBeLessThanOrEqual(objective[i - 1]);
  const width = centre.length / many.intermediateSize;
  for (let i = 0; i < centre.length; i++) {
    const row = Math.floor(i / width);
    const sum = permutations.reduce(
      (total, order, expert) => total + layer.designs[expert][order[row] * width + (i % width)] - centre[i],
      0,
    );
    expect(Math.abs(sum)).toBeLessThan(1e-5);
  }
});

test('an iteration limit ends with the experts aligned to the centre that is returned', async () => {
  const layer = makeExperts({ ...many, spread: 0.6, shuffled: true });
  const one = await findCentre({ kind: 'barycenter', maxIterations: 1, initialExpert: 2 }, layer);
  expect(one.centre).toEqual(layer.designs[2]);
  expect(one.residuals[2]).toBe(0);
  const two = await findCentre({ kind: 'barycenter', maxIterations: 2 }, layer);
  const all = await findCentre({ kind: 'barycenter' }, layer);
  expect(two.objective).toEqual(all.objective.slice(0, 2));
});

test('a match in float32 costs what one in float64 does', async () => {
  const [rows, width] = [96, 40];
  const [centre, design] = ['centre', 'design'].map((name) => {
    const numbers = new Float32Array(rows * width);
    fillNormal(streamKey(name), numbers);
    return numbers;
  });
  const matcher = await NeuronMatcher.open(rows, width);
  const order = await matcher.match(centre, design, 0);
  await matcher.release();
  const solver = new AssignmentSolver(rows, 'float64');
  for (let i = 0; i < rows; i++)
    for (let j = 0; j < rows; j++)
      for (let k = 0; k < width; k++)
        solver.costs[i * rows + j] += (centre[i * width + k] - design[j * width + k]) ** 2;
  const total = (columnOf: Int32Array): number =>
    columnOf.reduce((sum, column, row) => sum + solver.costs[row * rows + column], 0);
  const exact = total(solver.solve().columnOf);
  expect(total(order) / exact - 1).toBeLessThan(1e-6);
  expect(total(order)).toBeGreaterThanOrEqual(exact * (1 - 1e-12));
});
