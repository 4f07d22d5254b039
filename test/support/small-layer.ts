import { input } from '../../src/graph/index.js';
import { nameParameters, normal } from '../../src/nn/index.js';
import type { Dispatch, FeedForwardContext, SoftmaxTopKOptions } from '../../src/moe/index.js';
import {
  CapacityDispatch,
  DroplessDispatch,
  FeedForwardBank,
  SoftmaxTopKRouter,
  SparseLayer,
} from '../../src/moe/index.js';
import { layerContext } from './moe-context.js';

/** Sizes of the layers made here. */
export const hiddenSize = 4;
/** Width inside one expert. */
export const intermediateSize = 6;

/** What a test may choose about its layer. */
export interface LayerSettings extends Partial<SoftmaxTopKOptions> {
  readonly dispatch?: Dispatch;
}

/** A sparse layer of four ReLU experts, unless told otherwise. */
export function createLayer({ dispatch = new DroplessDispatch(), ...router }: LayerSettings): SparseLayer {
  const { numExperts = 4, topK = 1 } = router;
  return new SparseLayer({
    router: new SoftmaxTopKRouter({ hiddenSize, numExperts, topK, ...router }, normal(1)),
    dispatch,
    experts: new FeedForwardBank(
      { numExperts, hiddenSize, intermediateSize, activation: 'relu' },
      normal(1),
      normal(1),
    ),
  });
}

/** Traces a layer over `tokens` rows, in float64. */
export function traceLayer(layer: SparseLayer, tokens: number, context: Partial<FeedForwardContext> = {}) {
  const parameters = nameParameters(layer, 'float64');
  const hidden = input('hidden', 'float64', [tokens, hiddenSize]);
  return { parameters, hidden, ...layer.forward(hidden, layerContext(context)) };
}

/** Both dispatches, with places enough for everyone. */
export const dispatches: readonly (readonly [string, Dispatch])[] = [
  ['dropless', new DroplessDispatch()],
  ['capacity', new CapacityDispatch({ capacityFactor: 4 })],
];
