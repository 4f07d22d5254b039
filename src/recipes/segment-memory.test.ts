import { describe, expect, test } from 'vitest';
import { parseRecipe } from './load.js';

const recipe = (model: object, data?: object): unknown => ({
  model: { hiddenSize: 8, numLayers: 1, numHeads: 2, intermediateSize: 8, contextLength: 8, ...model },
  train: { batchSize: 2, steps: 1 },
  ...(data && { data }),
});
const text = { kind: 'text', path: 'a.txt' };

describe('segment recurrence needs text that reads on', () => {
  test.each(['transformerXL', 'span'])('%s positions', (positions) => {
    expect(() => parseRecipe(recipe({ positions }, text), 'my.json')).toThrow(
      `my.json: data.order: segment recurrence needs data.order stream, not random: ${positions} positions remember earlier segments`,
    );
    expect(() => parseRecipe(recipe({ positions }), 'my.json')).toThrow(
      `my.json: data.kind: ${positions} positions remember earlier segments, which the cldr corpus does not put in a row`,
    );
    const parsed = parseRecipe(recipe({ positions }, { ...text, order: 'stream' }), 'my.json');
    expect(parsed.model).toMatchObject({ positions });
  });

  test('without a memory any order will do, and a stream serves any model', () => {
    const none = { positions: 'transformerXL', memoryLength: 0 };
    expect(parseRecipe(recipe(none), 'my.json').data.kind).toBe('cldr');
    expect(() => parseRecipe(recipe({ ...none, evaluationMemoryLength: 8 }, text), 'my.json')).toThrow(
      'stream',
    );
    expect(parseRecipe(recipe({}, { ...text, order: 'stream' }), 'my.json').data).toMatchObject({
      order: 'stream',
    });
  });
});
