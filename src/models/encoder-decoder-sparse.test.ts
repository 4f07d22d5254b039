import { expect, test } from 'vitest';
import { input } from '../graph/index.js';
import { nameParameters, trainingContext } from '../nn/index.js';
import { EncoderDecoder } from './encoder-decoder.js';
import { encoderDecoderSchema } from './encoder-decoder-options.js';

function trace(options: Readonly<Record<string, unknown>>) {
  const sizes = { hiddenSize: 8, numHeads: 2, intermediateSize: 12, contextLength: 6 };
  const parsed = encoderDecoderSchema.parse({ kind: 'encoderDecoder', ...sizes, ...options });
  const model = new EncoderDecoder({ ...parsed, vocabSize: 11 });
  nameParameters(model);
  const context = trainingContext();
  const tokens = (name: string) => input(name, 'int32', [2, 5]);
  const output = model.forward({ source: tokens('source'), target: tokens('target') }, context);
  return { ...output, noise: [...context.noise.feeds.keys()] };
}

test('stratified balance is one average over the blocks of encoder and decoder', () => {
  const { losses } = trace({
    numEncoderLayers: 4,
    numDecoderLayers: 7,
    sparse: { kind: 'stratified', every: 2, strata: [2, 2], balanceCoefficient: 0.5 },
  });
  // Two sparse blocks in the encoder, three in the decoder.
  expect(losses.map(({ name, coefficient }) => [name, coefficient])).toEqual(
    new Array<unknown>(5).fill(['balance', 0.1]),
  );
});

test.each<[string, object]>([
  ['top-K activation', { kind: 'topKActivation', topK: 4 }],
  ['shared experts', { numExperts: 3, sharedIntermediateSize: 4 }],
])('%s have the dropout inside that dense layers have', (_, sparse) => {
  const options = { numEncoderLayers: 1, numDecoderLayers: 1, dropout: 0.1, sparse };
  const inside = ({ noise }: ReturnType<typeof trace>): string[] =>
    noise.filter((name) => name.endsWith('.activation'));
  expect(inside(trace(options))).toHaveLength(2);
  expect(inside(trace({ ...options, activationDropout: 0 }))).toEqual([]);
  expect(inside(trace({ ...options, dropout: 0, activationDropout: 0.1 }))).toHaveLength(2);
});

test('a decision is repeated within its stack, through dense layers in between', () => {
  const { records, losses } = trace({
    numEncoderLayers: 4,
    numDecoderLayers: 4,
    sparse: { every: 2, numExperts: 3, routerSharing: { share: 'decision' } },
  });
  expect(records.map(({ name }) => name)).toEqual(['encoder.1', 'encoder.3', 'decoder.1', 'decoder.3']);
  // The first of each stack decides, and answers for it.
  expect(losses.filter(({ name }) => name === 'balance').map(({ layerIndex }) => layerIndex)).toEqual([1, 5]);
});
