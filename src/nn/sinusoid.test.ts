import { expect, test } from 'vitest';
import { run } from '../../test/support/numbers.js';
import { sinusoids } from './sinusoid.js';

test('sines, then cosines, from wavelength 2π to 10000 · 2π', async () => {
  const { table } = await run({ table: sinusoids(3, 6, 'float64') }, []);
  // Wavelengths 1, 100 and 10000 times 2π.
  const expected = [0, 1, 2].flatMap((t) => [
    ...[1, 100, 10_000].map((wave) => Math.sin(t / wave)),
    ...[1, 100, 10_000].map((wave) => Math.cos(t / wave)),
  ]);
  table.forEach((value, i) => expect(value).toBeCloseTo(expected[i]!, 14));
});

test('an odd width is refused', () => {
  expect(() => sinusoids(3, 5, 'float32')).toThrow('sinusoidal positions need an even width, not 5');
});
