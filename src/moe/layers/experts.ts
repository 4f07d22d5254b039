/**
 * The sparse layer of four sockets as it stands in a recipe.
 * @module
 */
import { z } from 'zod';
import { Linear, Module, weightInitializer } from '../../nn/index.js';
import { DenseFeedForward } from '../dense.js';
import { dispatchKinds, dispatchSchema } from '../dispatch/index.js';
import { bankKinds, expertsSchema } from '../experts/index.js';
import type { FeedForward } from '../feed-forward.js';
import { createKind, type Kind } from '../kind.js';
import { placement, size } from '../options.js';
import { routerKinds, routerSchema } from '../routers/index.js';
import { routerSharingSchema } from '../router-sharing.js';
import type { LayerSizes, SparseLayerSizes } from '../sizes.js';
import { SparseLayer } from '../sparse-layer.js';

const schema = z
  .strictObject({
    kind: z.literal('experts'),
    ...placement,
    numExperts: size,
    topK: size.default(1),
    /** Width inside one expert; the dense layers' width when absent. */
    intermediateSize: size.optional(),
    router: routerSchema.prefault({ kind: 'softmax' }),
    /** Layers that have one router in common; null gives each its own. */
    routerSharing: routerSharingSchema.nullable().default(null),
    dispatch: dispatchSchema.prefault({ kind: 'dropless' }),
    experts: expertsSchema.prefault({ kind: 'feedForward' }),
    /** Experts that every token visits beside the chosen ones (DeepSeekMoE): one network of this width. */
    sharedIntermediateSize: size.nullable().default(null),
    /** Weigh the shared network by a sigmoid of the token (Qwen1.5-MoE): `σ(w · x) shared(x)`. */
    sharedGate: z.boolean().default(false),
  })
  .superRefine((options, context) => {
    const refuse = (path: string, message: string): void =>
      context.addIssue({ code: 'custom', path: [path], message });
    const { topK, numExperts } = options;
    if (numExperts >= 1 && topK > numExperts) {
      refuse('topK', `topK ${topK} is more than numExperts ${numExperts}; choose 1 … ${numExperts}`);
    }
    if (options.sharedGate && options.sharedIntermediateSize === null) {
      refuse('sharedGate', 'there is no shared expert to weigh; set sharedIntermediateSize');
    }
    if (options.router.kind === 'expertChoice' && options.dispatch.kind !== 'dropless') {
      refuse('dispatch', 'expert choice gives out the places itself; use dispatch dropless');
    }
  });

/** `experts` in a recipe. */
export const experts: Kind<typeof schema, LayerSizes, FeedForward & Module> = {
  schema,
  create(options, layer) {
    const { numExperts, topK, sharedIntermediateSize } = options;
    if (options.router.kind === 'adaptiveClustering' && layer.numStackSparseLayers < 2) {
      throw new RangeError(
        `adaptiveClustering reads the choices of the sparse layer before it, but there is only one: ` +
          `${options.layers ? 'one' : `every ${options.every}`} of ${layer.numLayers} layers; ` +
          `set ${options.layers ? 'more layers' : 'more numLayers, or a smaller every'}`,
      );
    }
    const sizes: SparseLayerSizes = {
      ...layer,
      numExperts,
      topK,
      intermediateSize: options.intermediateSize ?? layer.intermediateSize,
    };
    return new SparseLayer({
      router: layer.routers.take(options.routerSharing, layer.sparseIndex, () =>
        createKind(routerKinds, options.router, sizes),
      ),
      dispatch: createKind(dispatchKinds, options.dispatch, sizes),
      experts: createKind(bankKinds, options.experts, sizes),
      ...(sharedIntermediateSize === null ? {} : { shared: createShared(layer, sharedIntermediateSize) }),
      ...(options.sharedGate
        ? {
            sharedGate: new Linear(
              layer.hiddenSize,
              1,
              weightInitializer(layer.initialization, layer.hiddenSize),
            ),
          }
        : {}),
    });
  },
};

function createShared(layer: LayerSizes, intermediateSize: number): DenseFeedForward {
  return new DenseFeedForward(
    { ...layer, intermediateSize, dropout: layer.activationDropout ?? layer.dropout },
    weightInitializer(layer.initialization, layer.hiddenSize),
    weightInitializer(layer.outputInitialization, intermediateSize),
  );
}
