/**
 * Options with everything said that a default would say, so that two descriptions of one model are equal.
 * @module
 */
import type { LanguageModelOptions, ModelOptions } from '../../models/index.js';
import { isSparseBlock } from '../../moe/index.js';

type Sparse = NonNullable<ModelOptions['sparse']>;

/** Options of the model's function, defaults filled in; what no layer reads is left out. */
export function canonicalOptions(options: ModelOptions): Readonly<Record<string, unknown>> {
  const { hiddenSize, numHeads, headSize, norm, normEpsilon, sparse } = options;
  const common = {
    ...options,
    headSize: headSize ?? hiddenSize / numHeads,
    normEpsilon: normEpsilon ?? (norm === 'rms' ? 1e-6 : 1e-5),
  };
  if (options.kind === 'languageModel') return { ...common, ...decoderOptions(options) };
  const decoderLayers = options.kind === 'encoderDecoder' ? options.numDecoderLayers : 0;
  return {
    ...common,
    relative:
      options.positions === 'relative'
        ? { numBuckets: 32, maxDistance: 128, ...options.relative }
        : undefined,
    // Relative positions have no last one: lengths are what the model was trained with.
    ...(options.positions === 'relative' ? { contextLength: undefined, targetLength: undefined } : {}),
    sparse: sparse && sparseOptions(sparse, options, [options.numEncoderLayers, decoderLayers]),
  };
}

function decoderOptions(options: LanguageModelOptions): Readonly<Record<string, unknown>> {
  const { hiddenSize, numHeads, bias, positions, latentAttention, sparse, numLayers } = options;
  const hasDense = sparse === null || placed(sparse, [numLayers]).length < numLayers;
  return {
    headSize: latentAttention ? undefined : (options.headSize ?? hiddenSize / numHeads),
    numKeyValueHeads: options.numKeyValueHeads ?? numHeads,
    bias: undefined,
    attentionBias: options.attentionBias ?? (bias ? 'all' : 'none'),
    feedForwardBias: hasDense ? (options.feedForwardBias ?? bias) : undefined,
    rotary: positions === 'rotary' ? { base: 10_000, interleaved: false, ...options.rotary } : undefined,
    intermediateSize: hasDense ? options.intermediateSize : undefined,
    sparse: sparse && sparseOptions(sparse, options, [numLayers]),
  };
}

function sparseOptions(
  sparse: Sparse,
  { intermediateSize, activation, bias }: Pick<ModelOptions, 'intermediateSize' | 'activation' | 'bias'>,
  numLayers: readonly number[],
): Readonly<Record<string, unknown>> {
  const where = { ...sparse, every: undefined, layers: placed(sparse, numLayers) };
  if (sparse.kind !== 'experts') return where;
  const { router, experts } = sparse;
  return {
    ...where,
    intermediateSize: sparse.intermediateSize ?? intermediateSize,
    // The shared network has the model's own.
    sharedBias: sparse.sharedIntermediateSize === null ? undefined : bias,
    router: {
      ...router,
      ...(router.kind === 'softmax' ? { scale: router.scale ?? 1 } : {}),
      ...(router.kind === 'biasBalanced'
        ? { normalizeGates: router.normalizeGates ?? router.score === 'sigmoid' }
        : {}),
    },
    experts:
      experts.kind === 'feedForward'
        ? { ...experts, activation: experts.activation ?? activation, bias: experts.bias ?? bias }
        : experts,
  };
}

/** Indices of the sparse blocks, counted through all stacks. */
function placed(sparse: Sparse, numLayers: readonly number[]): readonly number[] {
  let first = 0;
  return numLayers.flatMap((count) => {
    const start = first;
    first += count;
    return Array.from({ length: count }, (_, index) => index)
      .filter((index) => isSparseBlock(sparse, index, start))
      .map((index) => start + index);
  });
}
