/**
 * Adaptive Clustering routing: an expert is a cluster, and a token is routed in the space in which the cluster that it
 * was in before is equally tight along all features (Nielsen et al., arXiv 2502.15315).
 * @module
 */
import {
  concat,
  constant,
  divide,
  fill,
  greater,
  cast,
  maximum,
  multiply,
  slice,
  stopGradient,
  type Tensor,
} from '../../graph/index.js';
import { fillUniform, Module, Parameter, streamKey, zeros, type StateUpdate } from '../../nn/index.js';
import type { FeedForwardContext, RoutingRecord } from '../feed-forward.js';
import { createKind, type Kind } from '../kind.js';
import type { Router, RouterModule, Routing } from '../router.js';
import type { SparseLayerSizes } from '../sizes.js';
import {
  batchStatistics,
  prefixStatistics,
  type Assignment,
  type ClusterStatistics,
} from './adaptive-clustering/dispersion.js';
import {
  clusteringSchema,
  resolveClustering,
  type ClusteringOptions,
  type ClusteringSettings,
} from './adaptive-clustering/settings.js';
import { UnitEmbeddingRouter } from './adaptive-clustering/unit-embedding.js';
import { clusterWeights, nextCluster, tokenWeights } from './adaptive-clustering/weights.js';
import { plainRouterKinds } from './plain.js';

/** Options of {@link AdaptiveClusteringRouter} that do not describe the weights. */
export interface AdaptiveClusteringOptions extends Pick<
  ClusteringOptions,
  'layers' | 'decay' | 'gateBalanceCoefficient' | 'weights' | 'permuteLabels'
> {
  readonly hiddenSize: number;
  /** Every n-th block of the model is sparse: a sparse layer's number is its block's, divided by n. */
  readonly every: number;
}

/**
 * A router around another one: `inner` sees `h ∘ W_r`, where r is the expert that the previous sparse layer chose first
 * for the token and W_r the inverse spread of that expert's tokens along each feature. Statistics and labels have no
 * gradient; h keeps its own, scaled by the weights. Where no sparse layer came before (or one with another number of
 * experts), tokens go to `inner` as they are.
 *
 * One object may serve several layers. Its moving averages are then those of all of them together.
 */
export class AdaptiveClusteringRouter extends Module implements Router {
  readonly gate: UnitEmbeddingRouter | undefined;
  /** `[numExperts, hiddenSize + 1]`: moving sums of dispersions, and of how often a cluster had one. */
  readonly statistics: Parameter | undefined;

  constructor(
    readonly inner: RouterModule,
    private readonly settings: ClusteringSettings,
    private readonly options: AdaptiveClusteringOptions,
  ) {
    super();
    const { numExperts, topK } = inner;
    const { hiddenSize, gateBalanceCoefficient: balanceCoefficient } = options;
    if (settings.gate === 'unitEmbedding') {
      this.gate = new UnitEmbeddingRouter({ hiddenSize, numExperts, topK, balanceCoefficient });
    }
    if (settings.stats === 'running' && options.weights === 'clusters') {
      this.statistics = new Parameter([numExperts, hiddenSize + 1], zeros, false, { trainable: false });
    }
  }

  get numExperts(): number {
    return this.inner.numExperts;
  }

  get topK(): number {
    return this.inner.topK;
  }

  get leak(): string | undefined {
    const { weights, layers } = this.options;
    const whole = weights === 'clusters' && this.settings.stats === 'batch' && layers?.length !== 0;
    if (!whole) return this.inner.leak;
    return "clusters are measured over the whole batch, later tokens included; use stats 'running' or 'prefix'";
  }

  get wholeText(): string | undefined {
    const { weights, layers } = this.options;
    const measures = weights === 'clusters' && this.settings.stats !== 'running' && layers?.length !== 0;
    if (!measures) return this.inner.wholeText;
    return "clusters are measured over the text so far; stats 'running' reads a moving average instead";
  }

  route(hidden: Tensor, context: FeedForwardContext): Routing {
    const record = this.clusters(context);
    if (!record) return this.inner.route(hidden, context);
    const gate = this.gate ?? this.inner;
    if (this.options.weights === 'ones') return gate.route(hidden, context);

    const { experts, gates, numExperts } = record;
    const assignment = { hidden: stopGradient(hidden), experts, numClusters: numExperts };
    const { statistics, updates } = this.measure(assignment, context);
    const labels = this.options.permuteLabels ? nextCluster(record, numExperts) : { experts, gates };
    const weights = tokenWeights(clusterWeights(statistics, this.settings), labels, this.settings.label);
    const rescaled = multiply(hidden, stopGradient(weights));
    const routing = gate.route(rescaled, context);
    return {
      ...routing,
      ...(this.settings.applyTo === 'router+experts' && { expertInput: rescaled }),
      updates: [...(routing.updates ?? []), ...updates],
    };
  }

  /** The decision that says which cluster a token is in, if this layer listens to one. */
  private clusters({ previousRecord, layerIndex }: FeedForwardContext): RoutingRecord | undefined {
    const { layers, every } = this.options;
    if (previousRecord?.numExperts !== this.numExperts) return undefined;
    return layers === null || layers.includes(Math.floor(layerIndex / every)) ? previousRecord : undefined;
  }

  private measure(
    assignment: Assignment,
    context: FeedForwardContext,
  ): { statistics: ClusterStatistics; updates: StateUpdate[] } {
    const { settings, statistics: state } = this;
    if (this.options.weights === 'random') {
      return { statistics: randomStatistics(assignment, context.layerIndex), updates: [] };
    }
    if (settings.stats === 'prefix') {
      return { statistics: prefixStatistics(assignment, settings, context.batchSize), updates: [] };
    }
    if (state && !context.training) return { statistics: averaged(state.tensor), updates: [] };
    const statistics = batchStatistics(assignment, settings);
    return { statistics, updates: state ? [this.follow(state, statistics)] : [] };
  }

  /** Empty clusters have nothing to say: dispersion and presence are averaged side by side, and divided when read. */
  private follow(parameter: Parameter, { dispersion, present }: ClusterStatistics): StateUpdate {
    const { decay } = this.options;
    return {
      parameter,
      observation: concat([multiply(dispersion, present), present], 1),
      apply: (state, observation) =>
        state.forEach((value, i) => (state[i] = decay * value + (1 - decay) * observation[i])),
    };
  }
}

function averaged(state: Tensor): ClusterStatistics {
  const hiddenSize = (state.shape[1] as number) - 1;
  const seen = slice(state, 1, hiddenSize, hiddenSize + 1);
  return {
    dispersion: divide(slice(state, 1, 0, hiddenSize), maximum(seen, 1e-12)),
    present: cast(greater(seen, 0), state.dtype),
  };
}

/** Dispersions that mean nothing: uniform in (0, 1), the same every time, others in every layer. */
function randomStatistics({ hidden, numClusters }: Assignment, layerIndex: number): ClusterStatistics {
  const shape = [numClusters, hidden.shape[1] as number];
  const numbers = new Float32Array(shape[0] * shape[1]);
  fillUniform(streamKey('random cluster weights', layerIndex), numbers);
  const dispersion = cast(constant('float32', shape, numbers), hidden.dtype);
  return { dispersion, present: fill(hidden.dtype, [numClusters, 1], 1) };
}

/** `adaptiveClustering` in a recipe. */
export const adaptiveClustering: Kind<typeof clusteringSchema, SparseLayerSizes, RouterModule> = {
  schema: clusteringSchema,
  create: (options, sizes) => {
    const every = (sizes.layerIndex + 1) / (sizes.sparseIndex + 1);
    const count = Math.floor(sizes.numLayers / every);
    const absent = options.layers?.find((layer) => layer >= count);
    if (absent !== undefined) {
      throw new RangeError(
        `adaptiveClustering.layers: there is no sparse layer ${absent}; the model has ${count}, counted from 0`,
      );
    }
    const inner = createKind(plainRouterKinds, options.inner, sizes);
    return new AdaptiveClusteringRouter(inner, resolveClustering(options), {
      ...options,
      hiddenSize: sizes.hiddenSize,
      every,
    });
  },
};
