import fc from 'fast-check';
import { expect, test } from 'vitest';
import { fillNormal, fillUniform, streamKey } from '../nn/index.js';
import { AssignmentSolver, type Assignment } from './assignment-solver.js';
import scipy from '../../test/golden/assignment.json' with { type: 'json' };

const seed = Number(process.env['SWITCHYARD_SEED'] ?? 11);

function totalOf(costs: ArrayLike<number>, { columnOf }: Assignment): number {
  return columnOf.reduce((sum, column, row) => sum + costs[row * columnOf.length + column], 0);
}

/** The smallest total over all permutations. */
function bruteForce(costs: ArrayLike<number>, size: number, row = 0, taken = 0): number {
  if (row === size) return 0;
  let best = Infinity;
  for (let column = 0; column < size; column++) {
    if (taken & (1 << column)) continue;
    best = Math.min(
      best,
      costs[row * size + column] + bruteForce(costs, size, row + 1, taken | (1 << column)),
    );
  }
  return best;
}

/** Weak duality: potentials that fit under all costs and add up to the total leave no room for a smaller one. */
function expectOptimal(costs: ArrayLike<number>, assignment: Assignment): void {
  const { columnOf, rowPotentials, columnPotentials } = assignment;
  const size = columnOf.length;
  expect([...columnOf].sort((a, b) => a - b)).toEqual(Array.from({ length: size }, (_, i) => i));
  let scale = 0;
  for (let i = 0; i < size * size; i++) scale = Math.max(scale, Math.abs(costs[i]));
  const potentials = [...rowPotentials, ...columnPotentials];
  scale = Math.max(scale, ...potentials.map(Math.abs));
  let worst = 0;
  for (let row = 0; row < size; row++) {
    for (let column = 0; column < size; column++) {
      const slack = costs[row * size + column] - rowPotentials[row] - columnPotentials[column];
      worst = Math.min(worst, slack);
    }
  }
  expect(worst).toBeGreaterThanOrEqual(-1e-12 * scale);
  const bound = potentials.reduce((sum, potential) => sum + potential, 0);
  expect(Math.abs(totalOf(costs, assignment) - bound)).toBeLessThanOrEqual(1e-12 * scale * size);
}

function solve(costs: readonly number[], size: number, start?: Float64Array): Assignment {
  const solver = new AssignmentSolver(size, 'float64');
  solver.costs.set(costs);
  const assignment = solver.solve(start);
  expectOptimal(costs, assignment);
  return assignment;
}

test('by hand: the cheapest column of a row is not always its own', () => {
  expect([...solve([4, 1, 3, 2, 0, 5, 3, 2, 2], 3).columnOf]).toEqual([1, 0, 2]);
  expect([...solve([], 0).columnOf]).toEqual([]);
  expect([...solve([-3], 1).columnOf]).toEqual([0]);
});

const square = (entry: fc.Arbitrary<number>, max = 8): fc.Arbitrary<{ size: number; costs: number[] }> =>
  fc.integer({ min: 1, max }).chain((size) =>
    fc.record({
      size: fc.constant(size),
      costs: fc.array(entry, { minLength: size * size, maxLength: size * size }),
    }),
  );

test.each([
  ['whole numbers with many ties', fc.integer({ min: 0, max: 3 })],
  ['reals of any sign', fc.double({ min: -5, max: 5, noNaN: true })],
  ['huge and tiny together', fc.constantFrom(1e150, -1e150, 1e-150, 0, 1, 3)],
])('equals brute force: %s', (_, entry) => {
  fc.assert(
    fc.property(square(entry), ({ size, costs }) => {
      const total = totalOf(costs, solve(costs, size));
      const scale = Math.max(...costs.map(Math.abs), 1e-300);
      expect(Math.abs(total - bruteForce(costs, size)) / scale).toBeLessThanOrEqual(1e-12);
    }),
    { seed, numRuns: 150 },
  );
});

test('any start leads to an optimum, in float32 as in float64', () => {
  fc.assert(
    fc.property(square(fc.integer({ min: -9, max: 9 }), 13), fc.integer(), ({ size, costs }, key) => {
      const start = new Float64Array(size);
      fillNormal(key, start, 10);
      const single = new AssignmentSolver(size);
      single.costs.set(costs);
      const assignment = single.solve(start);
      expectOptimal(costs, assignment);
      expect(totalOf(costs, assignment)).toBe(totalOf(costs, solve(costs, size, start)));
    }),
    { seed, numRuns: 150 },
  );
});

test.each([30, 117, 257])('%i rows: uniform, far apart, equal, and one potential after another', (size) => {
  const solver = new AssignmentSolver(size);
  const { costs } = solver;
  fillUniform(streamKey('uniform', size), costs);
  const first = solver.solve();
  expectOptimal(costs, first);
  // The same again from its own potentials, and a neighbour of it.
  expect(totalOf(costs, solver.solve(first.columnPotentials))).toBeCloseTo(totalOf(costs, first), 9);
  costs.forEach((cost, i) => (costs[i] = cost + 0.01 * Math.sin(i)));
  const warm = solver.solve(first.columnPotentials);
  expectOptimal(costs, warm);
  expect(totalOf(costs, warm)).toBeCloseTo(totalOf(costs, solver.solve()), 9);
  for (let i = 0; i < costs.length; i++) costs[i] = (1 + (i % size)) * (1 + Math.floor(i / size));
  expectOptimal(costs, solver.solve());
  costs.fill(-2.5);
  expectOptimal(costs, solver.solve());
});

test.each(scipy.cases)('costs $name of $size rows: the total of scipy $total', ({ name, size, total }) => {
  const solver = new AssignmentSolver(size);
  const { costs } = solver;
  // The same arithmetic as in the script that made the fixture: exact in both languages.
  for (let i = 0; i < costs.length; i++) {
    const hash = Number((BigInt(i + 1) * 2654435761n) % 4294967296n);
    costs[i] = name === 'coarse' ? hash >>> 28 : (hash >>> 8) / 2 ** 24;
  }
  const assignment = solver.solve();
  expectOptimal(costs, assignment);
  expect(totalOf(costs, assignment)).toBeCloseTo(total, 10);
});

test('what is not a number is refused wherever it stands', () => {
  for (const [place, value] of [NaN, Infinity, -Infinity].flatMap((bad) =>
    [0, 4, 8].map((at) => [at, bad]),
  )) {
    const solver = new AssignmentSolver(3);
    solver.costs[place] = value;
    expect(() => solver.solve()).toThrow('an assignment needs finite costs');
  }
  const solver = new AssignmentSolver(2);
  expect(() => solver.solve(Float64Array.of(1, NaN))).toThrow('starts from 2 finite potentials');
  expect(() => solver.solve(new Float64Array(3))).toThrow('starts from 2 finite potentials');
  expect(() => new AssignmentSolver(40_000)).toThrow(
    /needs 6.0 GiB in one piece, which ends at 32\d\d\d rows/,
  );
});
