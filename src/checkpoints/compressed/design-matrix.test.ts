import { expect, test } from 'vitest';
import { designOf, designSize, weightsOf, type DesignShape, type ExpertWeights } from './design-matrix.js';
import { designBlocks, designWidth, type DesignRole } from './layer.js';

const numbers = (length: number, from: number): Float32Array =>
  Float32Array.from({ length }, (_, i) => from + i);

const shapeOf = (
  hiddenSize: number,
  intermediateSize: number,
  roles: readonly DesignRole[],
): DesignShape => ({
  hiddenSize,
  intermediateSize,
  blocks: designBlocks({ hiddenSize, roles }),
});

function weights(hiddenSize: number, intermediateSize: number, gated: boolean, bias: boolean): ExpertWeights {
  const size = hiddenSize * intermediateSize;
  return {
    ...(gated ? { gate: numbers(size, 10_000) } : {}),
    up: numbers(size, 20_000),
    down: numbers(size, 30_000),
    ...(gated && bias ? { gateBias: numbers(intermediateSize, 40_000) } : {}),
    ...(bias ? { upBias: numbers(intermediateSize, 50_000) } : {}),
  };
}

test('by hand: a row per neuron, the second matrix transposed', () => {
  const shape = shapeOf(2, 3, ['up', 'upBias', 'down']);
  const expert = {
    up: Float32Array.of(1, 2, 3, 4, 5, 6),
    upBias: Float32Array.of(7, 8, 9),
    down: Float32Array.of(10, 11, 12, 13, 14, 15),
  };
  expect([...designOf(expert, shape)]).toEqual([1, 2, 7, 10, 13, 3, 4, 8, 11, 14, 5, 6, 9, 12, 15]);
});

test.each([
  [false, false, 2 * 70, ['up', 'down'] as const],
  [false, true, 2 * 70 + 1, ['up', 'upBias', 'down'] as const],
  [true, false, 3 * 70, ['gate', 'up', 'down'] as const],
  [true, true, 3 * 70 + 2, ['gate', 'gateBias', 'up', 'upBias', 'down'] as const],
])('gated %s, bias %s: the columns and the exact way back', (gated, bias, width, roles) => {
  // Sides that are no multiple of the tile.
  const shape = shapeOf(70, 131, roles);
  const expert = weights(70, 131, gated, bias);
  expect(designWidth(shape.blocks)).toBe(width);
  const design = designOf(expert, shape);
  expect(design).toHaveLength(designSize(shape));
  expect(weightsOf(design, shape.blocks)).toEqual(expert);
});

test('fewer rows give a narrower expert', () => {
  const shape = shapeOf(2, 3, ['up', 'down']);
  const design = designOf(weights(2, 3, false, false), shape);
  const narrow = weightsOf(design.subarray(0, 8), shape.blocks);
  expect([...narrow.up!]).toEqual([20_000, 20_001, 20_002, 20_003]);
  expect([...narrow.down!]).toEqual([30_000, 30_001, 30_003, 30_004]);
});

test('weights that do not fit are refused by name', () => {
  const shape = shapeOf(2, 3, ['gate', 'up', 'down']);
  expect(() => designOf(weights(2, 3, false, false), shape)).toThrow(
    "weight 'gate' of an expert has no numbers",
  );
  expect(() => designOf(weights(2, 4, true, false), shape)).toThrow(
    "'gate' of an expert has 8 numbers, not 3 × 2",
  );
  expect(() => weightsOf(new Float32Array(13), shape.blocks)).toThrow('no rows of 6');
});
