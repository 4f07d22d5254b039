import { describe, expect, test } from 'vitest';
import { encoderDecoderSchema } from './encoder-decoder-options.js';

const small = {
  kind: 'encoderDecoder',
  hiddenSize: 8,
  numEncoderLayers: 2,
  numDecoderLayers: 2,
  numHeads: 2,
  headSize: 3,
  intermediateSize: 12,
  contextLength: 6,
} as const;

describe('options', () => {
  test.each([
    ['hiddenSize', { headSize: undefined, hiddenSize: 9 }, 'hiddenSize 9 is not divisible by numHeads 2'],
    ['hiddenSize', { positions: 'sinusoidal', hiddenSize: 9 }, 'need an even hiddenSize, not 9'],
    ['sparse.every', { sparse: { numExperts: 2, every: 3 } }, 'every 3 is more than the 2 layers of a stack'],
    ['positions', { positions: 'rotary' }, '"relative"'],
    ['attentionScale', { attentionScale: 0 }, '>0'],
    ['relative', { positions: 'none', relative: {} }, 'none positions have no buckets'],
    ['relative.numBuckets', { relative: { numBuckets: 3 } }, '>=4'],
    ['relative.maxDistance', { relative: { numBuckets: 8, maxDistance: 4 } }, 'not beyond the 4 distances'],
    ['decoderStartTokenId', { vocabSize: 7, decoderStartTokenId: 7 }, 'not in a vocabulary of 7'],
    ['kind', { kind: 'seq2seq' }, '"encoderDecoder"'],
    ['', { numLayers: 2 }, '"numLayers"'],
  ])('a bad %s is refused where it stands: %j', (path, options, message) => {
    const { error } = encoderDecoderSchema.safeParse({ ...small, ...options });
    expect(error?.issues.map((issue) => issue.path.join('.'))).toEqual([path]);
    expect(error!.issues[0]!.message).toContain(message);
  });
});
