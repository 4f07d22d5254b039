/**
 * Small models of each kind with random weights, to be exported.
 * @module
 */
import type { ExportSource } from '../../src/checkpoints/index.js';
import { createModel, modelSchema, type ModelOptions } from '../../src/models/index.js';
import { nameParameters, ParameterArena } from '../../src/nn/index.js';

const vocabSize = 23;
const stacks = { hiddenSize: 16, numHeads: 4, intermediateSize: 24, contextLength: 12 };
const sparse = (router: object, dispatch: object): object => ({ every: 2, numExperts: 4, router, dispatch });
const language = { kind: 'languageModel', ...stacks, numLayers: 2 };
const two = { ...stacks, headSize: 4, numEncoderLayers: 2, numDecoderLayers: 2 };

/** What is exported, by name. */
export const exportedModels: Readonly<Record<string, object>> = {
  'dense language model': {
    ...language,
    positions: 'learned',
    norm: 'layer',
    bias: true,
    tieEmbeddings: true,
  },
  'language model with two of four experts': {
    ...language,
    positions: 'rotary',
    activation: 'swiglu',
    numKeyValueHeads: 2,
    tieEmbeddings: false,
    sparse: { ...sparse({ kind: 'softmax' }, { kind: 'dropless' }), topK: 2 },
  },
  'language model with a capacity': {
    ...language,
    positions: 'relative',
    sparse: sparse({ kind: 'softmax' }, { kind: 'capacity', capacityFactor: 1 }),
  },
  'encoder-decoder with experts': {
    kind: 'encoderDecoder',
    ...two,
    attentionScale: 1,
    scaleLogits: true,
    sparse: sparse({ kind: 'softmax' }, { kind: 'dropless' }),
  },
  'classifier of the decoder': {
    kind: 'classifier',
    ...two,
    numLabels: 3,
    head: 'decoderEos',
    eosTokenId: 1,
    sparse: sparse({ kind: 'softmax' }, { kind: 'dropless' }),
  },
};

/** A model in memory. */
export interface MemoryModel extends ExportSource {
  readonly weights: ReadonlyMap<string, Float32Array>;
}

/** A model with random weights (seed 1), whose norms are not all ones. */
export function memoryModel(options: object, size = vocabSize): MemoryModel {
  const parsed = { ...modelSchema.parse(options), vocabSize: size } as ModelOptions;
  const parameters = nameParameters(createModel(parsed));
  const { views } = ParameterArena.allocate(parameters, 1).initialize(parameters, 1);
  for (const view of views.values())
    view.forEach((value, i) => (view[i] = value + 0.05 * Math.sin(i + view.length)));
  return {
    location: 'memory',
    options: parsed,
    weights: views,
    readParameter: async (name, { at } = {}) => {
      const view = views.get(name)!;
      if (at === undefined) return view;
      const length = view.length / parameters.get(name)!.shape[0];
      return view.subarray(at * length, (at + 1) * length);
    },
  };
}
