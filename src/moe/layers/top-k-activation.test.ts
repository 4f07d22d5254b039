import { describe, expect, test } from 'vitest';
import { randomNumbers } from '../../../test/support/gradient-check.js';
import { layerContext, layerSizes } from '../../../test/support/moe-context.js';
import { distance, randomParameters, run } from '../../../test/support/numbers.js';
import { matrix, type Matrix } from '../../../test/support/reference-moe.js';
import { referenceTopKActivation } from '../../../test/support/reference-memories.js';
import { gradients, input, sum } from '../../graph/index.js';
import { nameParameters, NoiseInputs } from '../../nn/index.js';
import type { LayerSizes } from '../sizes.js';
import { DenseFeedForward } from '../dense.js';
import { normal } from '../../nn/index.js';
import { TopKActivation, topKActivation } from './top-k-activation.js';

const parse = (options: object) => topKActivation.schema.parse({ kind: 'topKActivation', ...options });
const create = (options: object, sizes: Partial<LayerSizes> = {}): TopKActivation =>
  new TopKActivation(parse(options), { ...layerSizes(), ...sizes });

const hidden = matrix(randomNumbers(1, 9 * 4), 4);

async function outputOf(
  layer: TopKActivation | DenseFeedForward,
  adjust: (data: Map<string, Float64Array>) => void = () => undefined,
  rows: Matrix = hidden,
) {
  const parameters = nameParameters(layer, 'float64');
  const data = randomParameters(parameters, 3, 1);
  adjust(data);
  const x = input('hidden', 'float64', [rows.length, 4]);
  const { output } = layer.forward(x, layerContext());
  const actual = await run({ output }, [...data, ['hidden', rows.flat()]]);
  return { output: actual.output, data };
}

describe('top-K activations', () => {
  test('all kept is the dense layer, whatever its activation', async () => {
    for (const activation of ['relu', 'swiglu'] as const) {
      const sizes = { hiddenSize: 4, intermediateSize: 6, activation, bias: true };
      const dense = new DenseFeedForward(sizes, normal(1), normal(1));
      const all = await outputOf(create({ topK: 6, activation, bias: true }));
      expect((await outputOf(dense)).output).toEqual(all.output);
      const few = await outputOf(create({ topK: 1, activation, bias: true }));
      expect(distance(few.output, all.output)).toBeGreaterThan(0.1);
    }
  });

  test('equal ones are all kept', async () => {
    // Units 0 and 1 are twins, and the largest for a positive input: K = 1 keeps both.
    const twins = (data: Map<string, Float64Array>): void => {
      const up = data.get('network.up.weight')!;
      up.fill(0.1);
      up.fill(2, 0, 8);
    };
    const rows = [[1, 2, 0.5, 1]];
    const { output, data } = await outputOf(create({ topK: 1 }), twins, rows);
    const down = matrix(data.get('network.down.weight')!, 6);
    expect(
      distance(
        output,
        down.map((row) => 9 * (row[0] + row[1])),
      ),
    ).toBeLessThan(1e-12);
    expect(
      distance(output, referenceTopKActivation({ topK: 1 }, { hidden: rows, parameters: data }).flat()),
    ).toBe(0);
  });

  test('with fewer positive ones than K nothing changes', async () => {
    const negative = (data: Map<string, Float64Array>): void => {
      // Four units below zero on positive inputs, two above.
      data.get('network.up.weight')!.fill(-1).fill(1, 0, 8);
    };
    const rows = hidden.map((row) => row.map(Math.abs));
    const three = await outputOf(create({ topK: 3 }), negative, rows);
    expect(three.output).toEqual((await outputOf(create({ topK: 6 }), negative, rows)).output);
  });

  test('the length of a value decides between equal activations', async () => {
    const adjust = (data: Map<string, Float64Array>): void => {
      data.get('network.up.weight')!.fill(1);
      const down = data.get('network.down.weight')!;
      down.fill(0.1);
      for (let row = 0; row < 4; row++) down[6 * row + 4] = 3;
    };
    const rows = [[1, 1, 1, 1]];
    // By activation all six are equal and kept; by what they add, unit 4 is alone.
    expect((await outputOf(create({ topK: 1, byValueNorm: true }), adjust, rows)).output[0]).toBeCloseTo(
      12,
      12,
    );
    expect((await outputOf(create({ topK: 1 }), adjust, rows)).output[0]).toBeCloseTo(4 * (5 * 0.1 + 3), 12);
  });

  test('dropout comes before the choice: what it zeroes is not chosen', async () => {
    const layer = create({ topK: 1, dropout: 0.5 });
    const parameters = nameParameters(layer, 'float64');
    const noise = new NoiseInputs();
    const x = input('hidden', 'float64', [1, 4]);
    const { output } = layer.forward(x, layerContext({ training: true, noise }));
    const data = randomParameters(parameters, 3, 1);
    const up = data.get('network.up.weight')!;
    for (let unit = 0; unit < 6; unit++) up.fill(6 - unit, 4 * unit, 4 * unit + 4);
    // Units 0 and 1, the largest, are dropped; unit 2 is scaled by 1 / (1 − 0.5).
    const actual = await run({ output }, [
      ...data,
      ['hidden', [1, 0, 0, 0]],
      ['noise.layer.activation', [0.1, 0.2, 0.9, 0.9, 0.9, 0.9]],
    ]);
    const down = matrix(data.get('network.down.weight')!, 6);
    expect(
      distance(
        actual.output,
        down.map((row) => 8 * row[2]),
      ),
    ).toBeLessThan(1e-12);
  });

  test('what is not kept gets a gradient of exactly zero', async () => {
    const layer = create({ topK: 1 });
    const parameters = nameParameters(layer, 'float64');
    const x = input('hidden', 'float64', [1, 4]);
    const up = parameters.get('network.up.weight')!.tensor;
    const [gradient] = gradients(sum(layer.forward(x, layerContext()).output), [up]);
    const data = randomParameters(parameters, 3, 1);
    for (let unit = 0; unit < 6; unit++)
      data.get('network.up.weight')!.fill(unit + 1, 4 * unit, 4 * unit + 4);
    const actual = await run({ gradient }, [...data, ['hidden', [1, 1, 1, 1]]]);
    const rows = matrix(actual.gradient, 4).map((row) => row.some((value) => value !== 0));
    expect(rows).toEqual([false, false, false, false, false, true]);
  });

  test('takes biases and dropout from the model unless told otherwise', () => {
    const names = (options: object, sizes: Partial<LayerSizes>) => [
      ...create(options, sizes).parameters().keys(),
    ];
    expect(names({ topK: 2 }, { bias: true })).toContain('network.up.bias');
    expect(names({ topK: 2, bias: false }, { bias: true })).not.toContain('network.up.bias');
    const drops = (options: object): number => {
      const layer = create(options, { dropout: 0.1 });
      nameParameters(layer);
      const noise = new NoiseInputs();
      layer.forward(input('hidden', 'float32', [2, 4]), layerContext({ training: true, noise }));
      return noise.feeds.size;
    };
    expect([drops({ topK: 2 }), drops({ topK: 2, dropout: 0 })]).toEqual([1, 0]);
  });

  test('refuses to keep more than there is', () => {
    expect(() => create({ topK: 7 })).toThrow('topK 7 is more than intermediateSize 6; choose 1 … 6');
    expect(() => create({ topK: 7, intermediateSize: 7 })).not.toThrow();
  });
});
