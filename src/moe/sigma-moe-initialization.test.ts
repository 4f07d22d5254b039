import { expect, test } from 'vitest';
import { matrix } from '../../test/support/reference-moe.js';
import { normal, streamKey } from '../nn/index.js';
import { depthScaledNormal, equalRowNorms, sigmaMoeClassifier } from './sigma-moe-initialization.js';

function spread(numbers: Float64Array): number {
  const mean = numbers.reduce((a, b) => a + b, 0) / numbers.length;
  return Math.sqrt(numbers.reduce((total, x) => total + (x - mean) ** 2, 0) / numbers.length);
}

test('rows of one length keep their directions, and the matrix its spread', () => {
  const key = streamKey(1);
  const [before, after] = [new Float64Array(12 * 30), new Float64Array(12 * 30)];
  normal(0.3)(key, before);
  equalRowNorms(normal(0.3), 30)(key, after);
  const [rows, equal] = [matrix(before, 30), matrix(after, 30)];
  const lengths = equal.map((row) => Math.hypot(...row));
  for (const [i, row] of equal.entries()) {
    expect(lengths[i]).toBeCloseTo(lengths[0], 12);
    const stretch = lengths[i] / Math.hypot(...rows[i]);
    row.forEach((value, j) => expect(value).toBeCloseTo(stretch * rows[i][j], 12));
  }
  expect(spread(after)).toBeCloseTo(spread(before), 12);
});

test('one expert on one number starts finite', () => {
  const only = new Float64Array(1);
  sigmaMoeClassifier(2, 1)(streamKey(1), only);
  expect(Math.abs(only[0])).toBe(1);
});

test('the spread falls with depth and width: √(2 / (numLayers · fanIn))', () => {
  const numbers = new Float64Array(40_000);
  depthScaledNormal(16, 412)(streamKey(2), numbers);
  expect(spread(numbers) / Math.sqrt(2 / (16 * 412))).toBeCloseTo(1, 2);
});
