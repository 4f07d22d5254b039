/**
 * Sizes of a model, computed from shapes alone: nothing is allocated.
 * @module
 */
import { isSparseBlock, type FeedForward } from '../moe/index.js';
import { Module, type Parameter } from '../nn/index.js';
import { Classifier } from './classifier.js';
import { EncoderDecoder } from './encoder-decoder.js';
import { LanguageModel } from './language-model.js';
import type { Model, ModelOptions } from './model.js';

/**
 * Parameters, compute and memory of a model. "A token" of an encoder–decoder is one source token through the encoder and
 * one target token through the decoder; a classifier's goes through the stacks that it has, and its head, which works
 * once a text, counts as a share of that at full context.
 */
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
  /** Bytes of weights, gradients and two optimiser moments; activations come on top. */
  readonly trainingBytes: number;
  /** Indices of the sparse blocks; those of a decoder follow the encoder's. */
  readonly sparseLayers: readonly number[];
}

/** One block as far as its size matters. */
interface SizedBlock {
  readonly feedForward: FeedForward;
  readonly isSparse: boolean;
  /** Operations of one token's attention besides its projections. */
  readonly attentionFlops: number;
}

/** Tables, vectors per head, and what projects positions: looked up, or multiplied once for all tokens. */
const dependsOnNoToken =
  /^((encoder|decoder)\.)?(embedding|position)\.|^classifier\.|\.attention\.(position\.weight|contentBias|positionBias)$/;

/** Sizes of a model under construction; it needs neither names nor weights. */
export function sizeOfModel(model: Model): ModelSize {
  const blocks = model instanceof LanguageModel ? languageModelBlocks(model) : stackBlocks(model);
  const all = model.parameters();
  const inLayers = new Set<Parameter>();
  const inSparse = new Set<Parameter>();
  let active = 0;
  let flops = outputFlops(model);
  for (const { feedForward, isSparse, attentionFlops } of blocks) {
    const cost = feedForward.cost();
    active += cost.parameters;
    flops += cost.flops + attentionFlops;
    for (const parameter of parametersOf(feedForward)) {
      // A router that several layers share is active once.
      if (inLayers.has(parameter)) active -= parameter.size;
      inLayers.add(parameter);
      if (isSparse) inSparse.add(parameter);
    }
  }
  for (const [name, parameter] of all) {
    if (inLayers.has(parameter)) continue;
    active += parameter.size;
    if (!dependsOnNoToken.test(name) && parameter.shape.length >= 2) flops += 2 * parameter.size;
  }
  const total = (some: Iterable<Parameter>): number => [...some].reduce((sum, { size }) => sum + size, 0);
  const parameters = total(all.values());
  const trainable = total([...all.values()].filter((parameter) => parameter.trainable));
  const forwardFlopsPerToken = Math.round(flops);
  return {
    parameters,
    activeParameters: Math.round(active),
    sparseParameters: total(inSparse),
    forwardFlopsPerToken,
    trainingFlopsPerToken: 3 * forwardFlopsPerToken,
    weightBytes: 4 * parameters,
    trainingBytes: 4 * parameters + 12 * trainable,
    sparseLayers: blocks.flatMap(({ isSparse }, index) => (isSparse ? [index] : [])),
  };
}

/** Operations of an output that no matrix of the layers stands for: a tied table, or a head that works once a text. */
function outputFlops(model: Model): number {
  const { hiddenSize, contextLength } = model.options;
  if (model instanceof Classifier) {
    return (2 * hiddenSize * (hiddenSize + model.options.numLabels)) / contextLength;
  }
  return model.options.tieEmbeddings ? 2 * model.options.vocabSize * hiddenSize : 0;
}

function parametersOf(feedForward: FeedForward): Iterable<Parameter> {
  return feedForward instanceof Module ? feedForward.parameters().values() : [];
}

function languageModelBlocks({ options, blocks, memoryLengths }: LanguageModel): SizedBlock[] {
  const { sparse, contextLength, positions } = options;
  const remembered = memoryLengths?.training ?? 0;
  // Causal: a token looks at half of its segment on average, and at all of the memory; a span is as long everywhere.
  const visibleKeys = positions === 'span' ? remembered : remembered + contextLength / 2;
  const scores = attentionProducts(options) * visibleKeys;
  return blocks.map(({ feedForward, attention }, index) => {
    // Keys and values of the memory are made anew for every segment.
    const projections = ['key.weight', 'value.weight'].map(
      (name) => attention.parameters().get(name)?.size ?? 0,
    );
    const again = (2 * (projections[0] + projections[1]) * remembered) / contextLength;
    return { feedForward, isSparse: isSparse(sparse, index), attentionFlops: scores + again };
  });
}

function stackBlocks({ options, encoder, decoder }: EncoderDecoder | Classifier): SizedBlock[] {
  const { sparse, contextLength, numEncoderLayers } = options;
  const { targetLength = contextLength } = 'targetLength' in options ? options : {};
  const sized = (stack: typeof encoder, firstLayer: number, visibleKeys: number): SizedBlock[] =>
    stack.blocks.map(({ feedForward }, index) => ({
      feedForward,
      isSparse: isSparse(sparse, index, firstLayer),
      attentionFlops: attentionProducts(options) * visibleKeys,
    }));
  return [
    ...sized(encoder, 0, contextLength),
    ...(decoder ? sized(decoder, numEncoderLayers, targetLength / 2 + contextLength) : []),
  ];
}

/** Operations of one query with one key: score and value, and a score for the distance where positions are relative keys. */
function attentionProducts(options: ModelOptions): number {
  const { numHeads, hiddenSize, headSize, positions } = options;
  if (options.kind === 'languageModel' && options.latentAttention) {
    const { contentHeadSize, rotaryHeadSize, valueHeadSize } = options.latentAttention;
    return 2 * numHeads * (contentHeadSize + rotaryHeadSize + valueHeadSize);
  }
  const products = positions === 'transformerXL' || positions === 'span' ? 3 : 2;
  return 2 * products * numHeads * (headSize ?? hiddenSize / numHeads);
}

function isSparse(sparse: ModelOptions['sparse'], index: number, firstLayer = 0): boolean {
  return sparse !== null && isSparseBlock(sparse, index, firstLayer);
}
