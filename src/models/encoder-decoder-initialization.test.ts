import { expect, test } from 'vitest';
import { ParameterArena } from '../nn/index.js';
import { EncoderDecoder } from './encoder-decoder.js';
import { encoderDecoderSchema } from './encoder-decoder-options.js';

const sizes = {
  kind: 'encoderDecoder',
  hiddenSize: 16,
  numEncoderLayers: 3,
  numDecoderLayers: 5,
  numHeads: 2,
  intermediateSize: 32,
  contextLength: 6,
};

test('outputs start smaller by the sub-layers of their stack: two a block of the encoder, three of the decoder', () => {
  const started = (scaleOutputsByDepth: boolean): ReadonlyMap<string, Float32Array> => {
    const initialization = { kind: 'normal', scaleOutputsByDepth };
    const options = encoderDecoderSchema.parse({ ...sizes, initialization });
    const parameters = new EncoderDecoder({ ...options, vocabSize: 11 }).parameters();
    return ParameterArena.allocate(parameters).initialize(parameters, 1).views;
  };
  const [plain, scaled] = [started(false), started(true)];
  const ratio = (name: string): number => plain.get(name)![0] / scaled.get(name)![0];
  for (const part of ['selfAttention.output', 'feedForward.down']) {
    expect(ratio(`encoder.blocks.0.${part}.weight`), part).toBeCloseTo(Math.sqrt(2 * 3), 4);
    expect(ratio(`decoder.blocks.0.${part}.weight`), part).toBeCloseTo(Math.sqrt(3 * 5), 4);
  }
  expect(ratio('decoder.blocks.1.crossAttention.output.weight')).toBeCloseTo(Math.sqrt(15), 4);
  expect(ratio('encoder.blocks.0.feedForward.up.weight')).toBe(1);
});
