import { describe, expect, test } from 'vitest';
import { languageModelSchema } from './language-model-options.js';
import { LanguageModel } from './language-model.js';

const small = {
  hiddenSize: 8,
  numLayers: 2,
  numHeads: 4,
  intermediateSize: 12,
  contextLength: 9,
} as const;

describe('options', () => {
  test.each([
    ['hiddenSize', { hiddenSize: 10 }, 'hiddenSize 10 is not divisible by numHeads 4'],
    ['headSize', { headSize: 3 }, 'rotary positions need an even head size, not 3'],
    ['headSize', { hiddenSize: 12 }, 'rotary positions need an even head size, not 3'],
    ['numKeyValueHeads', { numKeyValueHeads: 3 }, 'numHeads 4 is not divisible by numKeyValueHeads 3'],
    ['sparse.every', { sparse: { numExperts: 2, every: 3 } }, 'every 3 is more than numLayers 2'],
    ['sparse.topK', { sparse: { numExperts: 2, topK: 3 } }, 'topK 3 is more than numExperts 2'],
    [
      'sparse.dispatch.capacityFactor',
      { sparse: { numExperts: 2, dispatch: { kind: 'capacity', capacityFactor: 0 } } },
      '>0',
    ],
    ['initialization.head', { initialization: { head: 'uniform' } }, 'set tieEmbeddings to false'],
    ['', { hidden_size: 8 }, '"hidden_size"'],
    ['sparse', { sparse: { numExperts: 2, experts_per_token: 1 } }, '"experts_per_token"'],
    ['positions', { positions: 'alibi' }, '"rotary"'],
    ['dropout', { dropout: 1 }, '<1'],
    ['numLayers', { numLayers: 0 }, '>=1'],
    ['vocabSize', { vocabSize: 0 }, '>=1'],
  ])('a bad %s is refused once, where it stands: %j', (path, options, message) => {
    const { error } = languageModelSchema.safeParse({ ...small, ...options });
    expect(error?.issues.map((issue) => issue.path.join('.'))).toEqual([path]);
    expect(error!.issues[0]!.message).toContain(message);
  });

  test('a head size of its own frees the hidden size', () => {
    const options = languageModelSchema.parse({ ...small, hiddenSize: 10, headSize: 4 });
    const model = new LanguageModel({ ...options, vocabSize: 11 });
    expect(model.parameters().get('blocks.0.attention.query.weight')!.shape).toEqual([16, 10]);
    expect(model.parameters().get('blocks.0.attention.output.weight')!.shape).toEqual([10, 16]);
  });

  test('odd heads are fine without rotation', () => {
    expect(languageModelSchema.parse({ ...small, hiddenSize: 12, positions: 'learned' }).hiddenSize).toBe(12);
  });
});
