/**
 * Small models with random weights, for tests of serving.
 * @module
 */
import { ByteTokenizer } from '../../src/data/index.js';
import { Programs } from '../../src/decode/index.js';
import { createModel, modelSchema, type Model, type ModelOptions } from '../../src/models/index.js';
import { nameParameters, ParameterArena } from '../../src/nn/index.js';
import type { PreparedModel } from '../../src/serve/index.js';
import { namedTensors, saveModelConfig, saveModelWeights } from '../../src/train/index.js';

const tokenizer = new ByteTokenizer({ specialTokens: true });

const sizes = {
  hiddenSize: 16,
  numHeads: 2,
  intermediateSize: 32,
  initialization: { scale: 4, embedding: 0.5 },
};
const sparse = { numExperts: 8, every: 1, dispatch: { kind: 'dropless' } };
const kinds = {
  languageModel: {
    ...sizes,
    numLayers: 3,
    contextLength: 600,
    positions: 'rotary',
    sparse: { ...sparse, topK: 2, router: { kind: 'softmax', jitter: 0 } },
  },
  encoderDecoder: {
    kind: 'encoderDecoder',
    ...sizes,
    ...{ numEncoderLayers: 2, numDecoderLayers: 2, contextLength: 48, targetLength: 80 },
    ...{ padTokenId: 256, eosTokenId: 258 },
    sparse: { ...sparse, topK: 1, router: { kind: 'softmax', jitter: 0 } },
  },
  classifier: {
    kind: 'classifier',
    ...sizes,
    ...{ numEncoderLayers: 2, contextLength: 48, numLabels: 3, head: 'encoderMean', mean: 'masked' },
    ...{ padTokenId: 256, eosTokenId: 258 },
    sparse: { ...sparse, topK: 1, router: { kind: 'softmax', jitter: 0 } },
  },
} as const;

/** A model of a kind with its weights. */
export function smallModel(
  kind: keyof typeof kinds,
  change: object = {},
): { readonly model: Model; readonly weights: ReadonlyMap<string, Float32Array> } {
  const options = { ...modelSchema.parse({ ...kinds[kind], ...change }), vocabSize: tokenizer.vocabSize };
  const model = createModel(options as ModelOptions);
  const parameters = nameParameters(model);
  return { model, weights: ParameterArena.allocate(parameters).initialize(parameters, 7).views };
}

/** Changes weights in place. */
export type Damage = (weights: ReadonlyMap<string, Float32Array>) => void;

/** Of the letter x the model knows nothing: what it computes of texts that have one is NaN. */
export const withoutX: Damage = (weights) => {
  const { hiddenSize } = sizes;
  const x = 'x'.charCodeAt(0);
  weights.get('embedding.weight')!.fill(NaN, x * hiddenSize, (x + 1) * hiddenSize);
};

/** {@link smallModel}, ready for an engine that has all weights in memory. */
export function smallPrepared(
  kind: keyof typeof kinds,
  change: object = {},
  damage: Damage = () => undefined,
): PreparedModel {
  const { model, weights } = smallModel(kind, change);
  damage(weights);
  return { name: 'small', model, tokenizer, passes: new Programs(weights) };
}

/** Writes {@link smallModel} as a model folder. */
export async function saveSmallModel(
  folder: string,
  kind: keyof typeof kinds,
  change: object = {},
  damage: Damage = () => undefined,
): Promise<void> {
  const { model, weights } = smallModel(kind, change);
  damage(weights);
  const shapes = new Map([...model.parameters()].map(([name, { shape }]) => [name, shape]));
  await saveModelConfig(folder, model.options as ModelOptions, tokenizer);
  await saveModelWeights(folder, namedTensors(shapes, weights));
}
