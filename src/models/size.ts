/**
 * Sizes of a model, computed from shapes alone: nothing is allocated.
 * @module
 */
import { isSparseBlock } from '../moe/index.js';
import type { LanguageModel } from './language-model.js';

/** Parameters, compute and memory of a language model. */
export interface ModelSize {
  /** All parameters; a tied table counts once. */
  readonly parameters: number;
  /** Parameters that one token's forward pass multiplies with or looks up: `topK` of the experts. */
  readonly activeParameters: number;
  /** Parameters of the sparse layers: routers, experts, and what they own besides. */
  readonly sparseParameters: number;
  /** Floating-point operations of one token's forward pass at full context: two per multiplied weight and per attention score. */
  readonly forwardFlopsPerToken: number;
  /** The same for forward and backward together: three times as many. */
  readonly trainingFlopsPerToken: number;
  /** Bytes of the float32 weights. */
  readonly weightBytes: number;
  /** Bytes of weights, gradients and two optimiser moments. */
  readonly trainingBytes: number;
  /** Indices of the sparse blocks. */
  readonly sparseLayers: readonly number[];
}

/** Sizes of a model under construction; it needs neither names nor weights. */
export function sizeOfModel(model: LanguageModel): ModelSize {
  const { options } = model;
  const { sparse, numHeads, numLayers, contextLength } = options;
  const headSize = options.headSize ?? options.hiddenSize / numHeads;
  let parameters = 0;
  let active = 0;
  let sparseParameters = 0;
  let flops = 0;
  for (const [name, { size, shape }] of model.parameters()) {
    parameters += size;
    const block = /^blocks\.(\d+)\.feedForward\./.exec(name);
    if (block && sparse && isSparseBlock(sparse, Number(block[1]))) sparseParameters += size;
    if (block) continue;
    active += size;
    const isTable = name.startsWith('embedding.') || name.startsWith('position.');
    if (!isTable && shape.length >= 2) flops += 2 * size;
  }
  for (const { feedForward } of model.blocks) {
    const cost = feedForward.cost();
    active += cost.parameters;
    flops += cost.flops;
  }
  if (options.tieEmbeddings) flops += 2 * options.vocabSize * options.hiddenSize;
  // Causal: a token looks at half of the context on average, once for scores and once for values.
  const attention = numLayers * contextLength * numHeads * headSize;
  const forwardFlopsPerToken = Math.round(flops + 2 * attention);
  return {
    parameters,
    activeParameters: Math.round(active),
    sparseParameters,
    forwardFlopsPerToken,
    trainingFlopsPerToken: 3 * forwardFlopsPerToken,
    weightBytes: 4 * parameters,
    trainingBytes: 16 * parameters,
    sparseLayers: sparse
      ? Array.from({ length: numLayers }, (_, i) => i).filter((i) => isSparseBlock(sparse, i))
      : [],
  };
}
