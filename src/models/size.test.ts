import { describe, expect, test } from 'vitest';
import { createModel, modelSchema, type ModelOptions } from './model.js';
import { sizeOfModel } from './size.js';

type Input = Readonly<Record<string, unknown>>;

const small = { hiddenSize: 8, numLayers: 4, numHeads: 2, intermediateSize: 12, contextLength: 10 };
const pair = {
  kind: 'encoderDecoder',
  hiddenSize: 8,
  numEncoderLayers: 2,
  numDecoderLayers: 2,
  numHeads: 2,
  headSize: 3,
  intermediateSize: 12,
  contextLength: 10,
  targetLength: 6,
};

function size(options: Input) {
  const parsed = modelSchema.parse(options);
  return sizeOfModel(createModel({ ...parsed, vocabSize: 11 } as ModelOptions));
}

describe('language models', () => {
  const attention = 4 * 8 * 8;
  const dense = 2 * 8 * 12;
  const norms = 9 * 8;

  test('dense, by hand', () => {
    const parameters = 11 * 8 + 4 * (attention + dense) + norms;
    // Half of ten keys, twice a product with eight numbers; and the table once more as the output layer.
    const flops = 2 * 4 * (attention + dense) + 4 * (2 * 2 * 8 * 5) + 2 * 11 * 8;
    expect(size(small)).toEqual({
      parameters,
      activeParameters: parameters,
      sparseParameters: 0,
      forwardFlopsPerToken: flops,
      trainingFlopsPerToken: 3 * flops,
      weightBytes: 4 * parameters,
      trainingBytes: 16 * parameters,
      sparseLayers: [],
    });
  });

  test('latent attention, by hand', () => {
    const latentAttention = { keyValueRank: 5, contentHeadSize: 3, rotaryHeadSize: 2, valueHeadSize: 4 };
    const weights = 8 * 2 * 5 + 8 * 7 + 5 * 2 * 7 + 2 * 4 * 8;
    const { parameters, forwardFlopsPerToken } = size({ ...small, latentAttention });
    expect(parameters).toBe(11 * 8 + 4 * (weights + dense) + norms + 4 * 5);
    // Half of ten keys: a product with five numbers, and one with four.
    const flops = 2 * 4 * (weights + dense) + 4 * (2 * 2 * (5 + 4) * 5) + 2 * 11 * 8;
    expect(forwardFlopsPerToken).toBe(flops);
  });

  test('experts: all are stored, topK are active', () => {
    const sparse = size({ ...small, sparse: { every: 2, numExperts: 5, topK: 2 } });
    const plain = size(small);
    expect(sparse.parameters - plain.parameters).toBe(2 * (4 * dense + 5 * 8));
    expect(sparse.activeParameters - plain.activeParameters).toBe(2 * (dense + 5 * 8));
    expect(sparse.forwardFlopsPerToken - plain.forwardFlopsPerToken).toBe(2 * 2 * (dense + 5 * 8));
    expect(sparse.sparseParameters).toBe(2 * (5 * dense + 5 * 8));
    expect(sparse.sparseLayers).toEqual([1, 3]);
  });

  test('a shared router is stored and active once, and works in every layer', () => {
    const options = { ...small, sparse: { numExperts: 5 } };
    const own = size(options);
    const shared = size({ ...options, sparse: { numExperts: 5, routerSharing: {} } });
    const router = 5 * 8;
    expect(own.parameters - shared.parameters).toBe(3 * router);
    expect(own.activeParameters - shared.activeParameters).toBe(3 * router);
    expect(own.sparseParameters - shared.sparseParameters).toBe(3 * router);
    expect(own.forwardFlopsPerToken).toBe(shared.forwardFlopsPerToken);
  });

  test('Omni-router’s 613,103,620 parameters, with a table of tokens in place of its projection of frames', () => {
    const omni = {
      hiddenSize: 1024,
      numLayers: 16,
      numHeads: 16,
      intermediateSize: 4096,
      contextLength: 1,
      positions: 'none',
      norm: 'layer',
      tieEmbeddings: false,
      outputBias: true,
      sparse: {
        numExperts: 4,
        router: { kind: 'softmax', bias: true },
        routerSharing: {},
        experts: { kind: 'feedForward', bias: true },
      },
    };
    const [frames, tokens] = [320 * 1024, 8192 * 1024];
    const parsed = modelSchema.parse(omni);
    const { parameters } = sizeOfModel(createModel({ ...parsed, vocabSize: 8192 } as ModelOptions));
    expect(parameters - tokens + frames).toBe(613_103_620);
  });

  test('an output layer of its own is stored, and multiplies what a tied table does', () => {
    const untied = size({ ...small, tieEmbeddings: false });
    expect(untied.parameters - size(small).parameters).toBe(11 * 8);
    expect(untied.forwardFlopsPerToken).toBe(size(small).forwardFlopsPerToken);
  });

  test('Transformer-XL: three products a key, all of the memory, and its keys and values once more', () => {
    const flops = size({ ...small, positions: 'transformerXL', memoryLength: 20 }).forwardFlopsPerToken;
    const layer = 2 * (attention + dense) + 3 * 2 * 8 * (20 + 5) + 2 * (2 * 8 * 8) * (20 / 10);
    expect(flops).toBe(4 * layer + 2 * 11 * 8);
  });

  test('a span: three products with exactly as many keys', () => {
    const flops = size({ ...small, positions: 'span', memoryLength: 20 }).forwardFlopsPerToken;
    const layer = 2 * (attention + dense) + 3 * 2 * 8 * 20 + 2 * (2 * 8 * 8) * (20 / 10);
    expect(flops).toBe(4 * layer + 2 * 11 * 8);
  });

  test('state without a gradient has no gradient to keep', () => {
    const balanced = size({ ...small, sparse: { numExperts: 5, router: { kind: 'biasBalanced' } } });
    expect(balanced.trainingBytes).toBeLessThan(16 * balanced.parameters);
    expect(balanced.weightBytes).toBe(4 * balanced.parameters);
  });
});

describe('encoder–decoders', () => {
  const attention = 4 * 8 * 6;
  const dense = 2 * 8 * 12;

  test('dense, by hand: one source token and one target token', () => {
    const parameters = 11 * 8 + 6 * attention + 4 * dense + 2 * 32 * 2 + (2 * 2 + 2 * 3 + 2) * 8;
    const keys = 2 * 10 + 2 * (6 / 2 + 10);
    const flops = 2 * (6 * attention + 4 * dense) + 2 * 2 * 6 * keys + 2 * 11 * 8;
    expect(size(pair)).toMatchObject({
      parameters,
      activeParameters: parameters,
      forwardFlopsPerToken: flops,
    });
  });

  test('sparse layers of the decoder follow the encoder’s', () => {
    const sparse = size({ ...pair, sparse: { every: 2, numExperts: 3 } });
    expect(sparse.sparseLayers).toEqual([1, 3]);
    expect(sparse.parameters - size(pair).parameters).toBe(2 * (2 * dense + 3 * 8));
    expect(sparse.activeParameters - size(pair).activeParameters).toBe(2 * 3 * 8);
  });
});

test('models are built by kind', () => {
  expect(createModel({ ...modelSchema.parse(small), vocabSize: 5 } as ModelOptions).constructor.name).toBe(
    'LanguageModel',
  );
  expect(createModel({ ...modelSchema.parse(pair), vocabSize: 5 } as ModelOptions).constructor.name).toBe(
    'EncoderDecoder',
  );
});
