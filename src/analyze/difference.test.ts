import { describe, expect, test } from 'vitest';
import { tinyModel } from '../../test/support/tiny-training.js';
import { EncoderDecoder, encoderDecoderSchema } from '../models/index.js';
import { nameParameters } from '../nn/index.js';
import { createWeights } from '../train/index.js';
import { compareLogits, logitsOfText } from './logit-difference.js';
import { compareTensors, type ComparedTensors } from './tensor-difference.js';

function holding(
  tensors: Readonly<Record<string, { shape: number[]; data: readonly number[] }>>,
): ComparedTensors {
  return {
    tensors: new Map(
      Object.entries(tensors).map(([name, { shape }]) => [name, { name, dtype: 'F32' as const, shape }]),
    ),
    read: async (name, rows) => {
      const { shape, data } = tensors[name];
      const row = data.length / shape[0];
      return Float32Array.from(rows ? data.slice(rows[0] * row, rows[1] * row) : data);
    },
  };
}

describe('tensors', () => {
  test('are counted, and measured where they differ', async () => {
    const first = holding({
      same: { shape: [2], data: [1, 2] },
      moved: { shape: [2, 1, 2], data: [3, 4, 0, 0] },
      reshaped: { shape: [2], data: [1, 2] },
      gone: { shape: [1], data: [1] },
    });
    const second = holding({
      same: { shape: [2], data: [1, 2] },
      moved: { shape: [2, 1, 2], data: [3, 4.5, 0, -1] },
      reshaped: { shape: [2, 1], data: [1, 2] },
      come: { shape: [3], data: [1, 1, 1] },
    });
    const difference = await compareTensors(first, second);
    expect(difference).toMatchObject({ equal: 1, parameters: [9, 11] });
    expect(difference.onlyFirst.map(({ name }) => name)).toEqual(['gone']);
    expect(difference.onlySecond.map(({ name }) => name)).toEqual(['come']);
    expect(difference.changed).toEqual([
      {
        name: 'moved',
        dtypes: ['F32', 'F32'],
        shapes: [
          [2, 1, 2],
          [2, 1, 2],
        ],
        changed: 2,
        maxAbsolute: 1,
        meanAbsolute: 1.5 / 4,
        relative: Math.sqrt(1.25) / 5,
      },
      expect.objectContaining({ name: 'reshaped', changed: 2, maxAbsolute: Infinity }),
    ]);
  });

  test('NaN equals NaN and is infinitely far from a number', async () => {
    const [a, b] = [NaN, 1].map((value) => holding({ x: { shape: [1], data: [value] } }));
    expect((await compareTensors(a, a)).changed).toEqual([]);
    expect((await compareTensors(a, b)).changed).toMatchObject([{ changed: 1, maxAbsolute: Infinity }]);
  });
});

describe('logits', () => {
  test('by hand: largest gap, mean divergence, first choices', () => {
    const row = (...shares: number[]): number[] => shares.map(Math.log);
    const text = (...rows: number[][]) => ({
      positions: rows.length,
      vocabSize: 2,
      logits: Float32Array.from(rows.flat()),
    });
    const difference = compareLogits(
      text(row(0.5, 0.5), row(0.25, 0.75)),
      text(row(0.5, 0.5), row(0.75, 0.25)),
    );
    expect(difference.maxAbsolute).toBeCloseTo(Math.log(3), 6);
    expect(difference.divergence).toBeCloseTo((0.5 * Math.log(3)) / 2, 6);
    expect(difference).toMatchObject({ positions: 2, agreement: 0.5 });
    expect(() => compareLogits(text(row(0.5, 0.5)), text())).toThrow('cannot be compared');
  });

  test('of a model with itself are the same, with another are not', async () => {
    const model = tinyModel({ sparse: { numExperts: 2 } }, 8);
    nameParameters(model);
    const ids = Array.from({ length: 21 }, (_, i) => (i * 37) % 256);
    const read = (seed: number) => logitsOfText(model, createWeights(model.parameters(), [], seed).all, ids);
    const [a, b] = [await read(1), await read(2)];
    // Two windows of 8; the rest fills none.
    expect(a.positions).toBe(16);
    expect(compareLogits(a, await read(1))).toEqual({
      positions: 16,
      maxAbsolute: 0,
      divergence: 0,
      agreement: 1,
    });
    expect(compareLogits(a, b).maxAbsolute).toBeGreaterThan(0);
    await expect(logitsOfText(model, new Map(), [])).rejects.toThrow('the text has no tokens');
  });

  test('of an encoder–decoder are read in windows that fit its targets', async () => {
    const options = encoderDecoderSchema.parse({
      kind: 'encoderDecoder',
      hiddenSize: 8,
      numEncoderLayers: 1,
      numDecoderLayers: 1,
      numHeads: 2,
      intermediateSize: 8,
      contextLength: 8,
      targetLength: 3,
    });
    const model = new EncoderDecoder({ ...options, vocabSize: 5 });
    nameParameters(model);
    const { all } = createWeights(model.parameters(), [], 1);
    expect((await logitsOfText(model, all, [1, 2, 3, 4, 1, 2, 3])).positions).toBe(6);
  });
});
