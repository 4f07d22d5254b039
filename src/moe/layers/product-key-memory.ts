/**
 * Product-key memory: n² values found by two short lists of keys (Lample et al. 2019; σ-MoE, arXiv 2310.10837 §3.2).
 * @module
 */
import { z } from 'zod';
import {
  add,
  divide,
  fill,
  gather,
  gatherElements,
  matmul,
  modulo,
  multiply,
  relu,
  reshape,
  scatterAdd,
  slice,
  softmax,
  stopGradient,
  sum,
  topK as largest,
  transpose,
  type Tensor,
} from '../../graph/index.js';
import { Linear, Module, normal, Parameter, uniform, weightInitializer } from '../../nn/index.js';
import { moduleCost } from '../cost.js';
import type { FeedForward, FeedForwardContext, FeedForwardOutput, TokenCost } from '../feed-forward.js';
import type { Kind } from '../kind.js';
import { placement, size } from '../options.js';
import type { LayerSizes } from '../sizes.js';

const schema = z
  .strictObject({
    kind: z.literal('productKey'),
    ...placement,
    /** Sets of keys; all share the values. */
    heads: size.default(4),
    /** n keys per half: n² values. */
    subKeys: size,
    /** Values that each head reads. */
    topK: size.default(32),
    /** `relu`: scores do not compete (σ-MoE). `softmax`: the original. */
    activation: z.enum(['relu', 'softmax']).default('relu'),
    /** What a softmax runs over: the scores of all heads together (σ-MoE's code), or of each by itself (original). */
    softmaxOver: z.enum(['heads', 'head']).default('heads'),
    /**
     * `sparse`: each head reads its topK values. `dense`: the scores of all heads are summed first and all n² values
     * are read, which is what produced the table of the σ-MoE paper. `auto`: dense where n ≤ topK, as its code does.
     */
    path: z.enum(['sparse', 'dense', 'auto']).default('sparse'),
    /** Width of each head's projected query (original); null splits the layer's input in halves (σ-MoE). */
    querySize: size.nullable().default(null),
    /**
     * `depthScaled`: σ = √(2 / (numLayers · hiddenSize)) for keys and values (σ-MoE). `depthScaledByValues`: n² instead
     * of hiddenSize for the values (its "+ init"). `original`: keys uniform in ±1/√half, values σ = 1/√hiddenSize.
     * `model`: as the model's weights start.
     */
    initialization: z
      .enum(['depthScaled', 'depthScaledByValues', 'original', 'model'])
      .default('depthScaled'),
  })
  .superRefine((options, context) => {
    const refuse = (path: string, message: string): void =>
      context.addIssue({ code: 'custom', path: [path], message });
    const { querySize, softmaxOver, activation, subKeys, topK } = options;
    if (querySize !== null && querySize % 2 !== 0) {
      refuse('querySize', `querySize ${querySize} has no halves; choose an even number`);
    }
    if (softmaxOver === 'head' && activation !== 'softmax') {
      refuse('softmaxOver', `softmaxOver does nothing with activation ${activation}; leave it out`);
    } else if (softmaxOver === 'head' && isDense(options)) {
      const reason =
        options.path === 'auto' ? `path auto is dense with subKeys ${subKeys} ≤ topK ${topK}` : 'path dense';
      refuse(
        'softmaxOver',
        `${reason} sums the heads before the softmax; use path sparse, or softmaxOver heads`,
      );
    }
  });

/** Options of a product-key memory. */
export type ProductKeyOptions = z.infer<typeof schema>;

function isDense({ path, subKeys, topK }: Pick<ProductKeyOptions, 'path' | 'subKeys' | 'topK'>): boolean {
  return path === 'dense' || (path === 'auto' && subKeys <= topK);
}

/**
 * Value `i₁ n + i₂` has the key `[k₁[i₁] | k₂[i₂]]`, so a score is the sum of two. The best topK of n² sums are among
 * the sums of the best topK of either half. The choice has no gradient; the scores that were chosen pass theirs to the
 * keys. Padding reads values too, which no loss sees.
 */
export class ProductKeyMemory extends Module implements FeedForward {
  readonly query: Linear | undefined;
  /** `[heads, subKeys, half]` for the first half of the query. */
  readonly firstKeys: Parameter;
  /** The same for the second half. */
  readonly secondKeys: Parameter;
  /** `[subKeys², hiddenSize]` */
  readonly values: Parameter;

  /** @throws RangeError if the input has no halves. */
  constructor(
    private readonly options: ProductKeyOptions,
    layer: LayerSizes,
  ) {
    super();
    const { heads, subKeys, querySize } = options;
    const { hiddenSize } = layer;
    if (querySize === null && hiddenSize % 2 !== 0) {
      throw new RangeError(`hiddenSize ${hiddenSize} has no halves; choose an even number, or set querySize`);
    }
    const half = (querySize ?? hiddenSize) / 2;
    const start = initializers(options, layer, half);
    this.query =
      querySize === null
        ? undefined
        : new Linear(hiddenSize, heads * querySize, weightInitializer(layer.initialization, hiddenSize), {
            bias: true,
          });
    this.firstKeys = new Parameter([heads, subKeys, half], start.keys);
    this.secondKeys = new Parameter([heads, subKeys, half], start.keys);
    this.values = new Parameter([subKeys * subKeys, hiddenSize], start.values);
  }

  forward(hidden: Tensor, _context: FeedForwardContext): FeedForwardOutput {
    const [first, second] = this.scores(hidden);
    const output = isDense(this.options) ? this.readAll(first, second) : this.readBest(first, second);
    return { output, records: [], losses: [] };
  }

  /** Both halves of the query against their keys: 2 × `[tokens, heads, subKeys]`. */
  private scores(hidden: Tensor): [Tensor, Tensor] {
    const { heads, subKeys } = this.options;
    const half = this.firstKeys.shape[2];
    const tokens = hidden.shape[0];
    const queries = this.query
      ? transpose(reshape(this.query.forward(hidden), [tokens, heads, 2 * half]), [1, 0, 2])
      : hidden;
    const against = (keys: Tensor, from: number): Tensor => {
      const part = slice(queries, queries.rank - 1, from, from + half);
      if (this.query) return transpose(matmul(part, keys, { transposeB: true }), [1, 0, 2]);
      const flat = matmul(part, reshape(keys, [heads * subKeys, half]), { transposeB: true });
      return reshape(flat, [tokens, heads, subKeys]);
    };
    return [against(this.firstKeys.tensor, 0), against(this.secondKeys.tensor, half)];
  }

  private readAll(first: Tensor, second: Tensor): Tensor {
    const { subKeys } = this.options;
    const tokens = first.shape[0];
    const sums = add(
      reshape(sum(first, 1), [tokens, subKeys, 1]),
      reshape(sum(second, 1), [tokens, 1, subKeys]),
    );
    const scores = reshape(sums, [tokens, subKeys * subKeys]);
    const weights = this.options.activation === 'relu' ? relu(scores) : softmax(scores);
    return matmul(weights, this.values.tensor);
  }

  private readBest(first: Tensor, second: Tensor): Tensor {
    const { heads, subKeys, activation, softmaxOver } = this.options;
    const tokens = first.shape[0];
    const { firstIndex, secondIndex, width } = this.choose(stopGradient(first), stopGradient(second));
    const scores = add(gatherElements(first, firstIndex), gatherElements(second, secondIndex));
    const together = [tokens, heads * width];
    const places = reshape(add(multiply(firstIndex, subKeys), secondIndex), together);
    const weights =
      activation === 'relu'
        ? relu(scores)
        : softmax(softmaxOver === 'heads' ? reshape(scores, together) : scores);
    return this.weigh(places, reshape(weights, together));
  }

  /** `Σ_j weights_tj · values[places_tj]` */
  private weigh(places: Tensor, weights: Tensor): Tensor {
    const { tensor } = this.values;
    const [count, hiddenSize] = this.values.shape;
    const [tokens, read] = places.shape as [number, number];
    // Copies of the values that are read, and the scatter of their gradients, are larger than a matrix of all weights,
    // mostly zeros, unless there are very many values.
    if (count <= read * hiddenSize) {
      return matmul(scatterAdd(fill(weights.dtype, [tokens, count], 0), places, weights, 1), tensor);
    }
    return sum(multiply(gather(tensor, places), reshape(weights, [tokens, read, 1])), 1);
  }

  /** Where the best sums are, best first: int64 `[tokens, heads, width]` for either half. */
  private choose(first: Tensor, second: Tensor) {
    const { heads, subKeys, topK } = this.options;
    const perHalf = Math.min(topK, subKeys);
    const width = Math.min(topK, perHalf * perHalf);
    const a = largest(first, perHalf);
    const b = largest(second, perHalf);
    const shape = [first.shape[0], heads, perHalf];
    const sums = add(reshape(a.values, [...shape, 1]), reshape(b.values, [...shape.slice(0, 2), 1, perHalf]));
    const best = largest(reshape(sums, [...shape.slice(0, 2), perHalf * perHalf]), width).indices;
    return {
      firstIndex: gatherElements(a.indices, divide(best, perHalf)),
      secondIndex: gatherElements(b.indices, modulo(best, perHalf)),
      width,
    };
  }

  /** Every key, and the values that are read. */
  cost(): TokenCost {
    const { heads, subKeys, topK } = this.options;
    const [count, hiddenSize] = this.values.shape;
    const read = isDense(this.options) ? count : Math.min(heads * Math.min(topK, subKeys ** 2), count);
    const weighed = isDense(this.options) ? count : heads * Math.min(topK, subKeys ** 2);
    const { parameters, flops } = moduleCost(this);
    return {
      parameters: parameters - (count - read) * hiddenSize,
      flops: flops - 2 * (count - weighed) * hiddenSize,
    };
  }
}

function initializers({ initialization, subKeys }: ProductKeyOptions, layer: LayerSizes, half: number) {
  const { hiddenSize, numLayers } = layer;
  const depthScaled = normal(Math.sqrt(2 / (numLayers * hiddenSize)));
  switch (initialization) {
    case 'depthScaled':
      return { keys: depthScaled, values: depthScaled };
    case 'depthScaledByValues':
      return { keys: depthScaled, values: normal(Math.sqrt(2 / numLayers) / subKeys) };
    case 'original':
      return { keys: uniform(1 / Math.sqrt(half)), values: normal(1 / Math.sqrt(hiddenSize)) };
    case 'model':
      return {
        keys: weightInitializer(layer.initialization, half),
        values: weightInitializer(layer.outputInitialization, subKeys ** 2),
      };
  }
}

/** `productKey` in a recipe. */
export const productKey: Kind<typeof schema, LayerSizes, FeedForward & Module> = {
  schema,
  create: (options, layer) => new ProductKeyMemory(options, layer),
};
