import type { BatchSequence, LabelledBatch } from '../../data/index.js';
import { createModel, modelSchema, type Model } from '../../models/index.js';
import { nameParameters, RandomStream, startParameter, streamKey } from '../../nn/index.js';

/** A classifier with two sparse layers, and weights that route as they please. */
export interface SmallModel {
  readonly model: Model;
  readonly weights: ReadonlyMap<string, Float32Array>;
}

/** Tokens that a row of {@link smallTexts} may have. */
export const longestText = 8;

/** Four blocks, of which the second and the fourth are sparse. */
export function smallClassifier(
  seed = 1,
  {
    numExperts = 4,
    topK = 1,
    router = { kind: 'softmax', balanceCoefficient: 0, standardDeviation: 1 } as object,
  } = {},
): SmallModel {
  const options = modelSchema.parse({
    kind: 'classifier',
    head: 'encoderMean',
    numLabels: 2,
    numDecoderLayers: 0,
    hiddenSize: 8,
    numEncoderLayers: 4,
    numHeads: 2,
    intermediateSize: 16,
    activation: 'relu',
    contextLength: longestText,
    positions: 'relative',
    norm: 'rms',
    initialization: { kind: 'fanIn', scale: 1, embedding: 1 },
    sparse: {
      every: 2,
      numExperts,
      topK,
      router,
      dispatch: { kind: 'dropless' },
    },
  });
  const model = createModel({ ...options, vocabSize: 40 });
  const parameters = nameParameters(model);
  const weights = new Map<string, Float32Array>();
  for (const [name, parameter] of parameters) {
    const values = new Float32Array(parameter.size);
    startParameter(parameter, seed, name, values);
    weights.set(name, values);
  }
  return { model, weights };
}

/** Random texts of {@link longestText} tokens, or one less. */
export function smallTexts(count: number, seed = 1, batchSize = 5): BatchSequence<LabelledBatch> {
  const random = new RandomStream(streamKey(seed, 'texts'));
  const texts = Array.from({ length: count }, () =>
    Int32Array.from({ length: longestText - random.integer(2) }, () => 1 + random.integer(39)),
  );
  return {
    batchSize,
    contextLength: longestText,
    batchCount: Math.ceil(count / batchSize),
    targetCount: count,
    *[Symbol.iterator]() {
      for (let first = 0; first < count; first += batchSize) {
        const source = new Int32Array(batchSize * longestText);
        const sourceMask = new Uint8Array(batchSize * longestText);
        const targets = new Int32Array(batchSize).fill(-100);
        texts.slice(first, first + batchSize).forEach((text, row) => {
          source.set(text, row * longestText);
          sourceMask.fill(1, row * longestText, row * longestText + text.length);
          targets[row] = 0;
        });
        yield { source, sourceMask, targets };
      }
    },
  };
}
