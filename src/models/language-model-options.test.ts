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

const latent = { keyValueRank: 6, contentHeadSize: 3, rotaryHeadSize: 4, valueHeadSize: 5 };

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
    ['sparse.layers', { sparse: { numExperts: 2, layers: [0, 2] } }, 'there is no block 2: the model has 2'],
    ['sparse.layers', { sparse: { numExperts: 2, layers: [1, 1] } }, 'list each block once, in order'],
    [
      'sparse.layers',
      { sparse: { numExperts: 2, layers: [1], every: 2 } },
      'both say which blocks are sparse',
    ],
    ['rotary', { positions: 'learned', rotary: {} }, 'learned positions have no rotary settings'],
    [
      'rotary.scaling.lowFrequencyFactor',
      {
        rotary: {
          scaling: {
            kind: 'llama3',
            factor: 2,
            lowFrequencyFactor: 4,
            highFrequencyFactor: 4,
            originalContextLength: 8,
          },
        },
      },
      'lowFrequencyFactor 4 is not below highFrequencyFactor 4',
    ],
    ['queryKeyNorm', { positions: 'span', memoryLength: 3, queryKeyNorm: 'all' }, 'leave queryKeyNorm out'],
    ['attentionBias', { positions: 'transformerXL', attentionBias: 'all' }, 'leave attentionBias out'],
    ['headSize', { latentAttention: latent, headSize: 4 }, 'latent attention has none: leave headSize out'],
    ['numKeyValueHeads', { latentAttention: latent, numKeyValueHeads: 2 }, 'each of its numHeads 4 heads'],
    ['positions', { latentAttention: latent, positions: 'none' }, 'use rotary positions, not none'],
    [
      'latentAttention.rotaryHeadSize',
      { latentAttention: { ...latent, rotaryHeadSize: 3 } },
      'rotary positions need an even size, not 3',
    ],
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

  test('listed blocks are sparse, and no others', () => {
    const options = languageModelSchema.parse({
      ...small,
      numLayers: 4,
      sparse: { numExperts: 2, layers: [0, 3] },
    });
    const names = [...new LanguageModel({ ...options, vocabSize: 11 }).parameters().keys()];
    const routed = names.filter((name) => name.endsWith('router.classifier.weight'));
    expect(routed.map((name) => name.split('.')[1])).toEqual(['0', '3']);
  });

  test('latent heads need not divide the hidden size', () => {
    const options = languageModelSchema.parse({ ...small, hiddenSize: 10, latentAttention: latent });
    const parameters = new LanguageModel({ ...options, vocabSize: 11 }).parameters();
    expect(parameters.get('blocks.0.attention.keyValueUp.weight')!.shape).toEqual([4 * 8, 6]);
  });

  test('odd heads are fine without rotation', () => {
    expect(languageModelSchema.parse({ ...small, hiddenSize: 12, positions: 'learned' }).hiddenSize).toBe(12);
  });
});
