/**
 * Multi-head attention with grouped keys and values.
 * @module
 */
import {
  add,
  broadcastTo,
  concat,
  constant,
  customGradient,
  matmul,
  maximum,
  minimum,
  multiply,
  reshape,
  slice,
  softmax,
  split,
  subtract,
  sum,
  transpose,
  type Tensor,
} from '../graph/index.js';
import { dropout, Linear, RMSNorm } from './layers.js';
import { cachedAttention } from './cached-attention.js';
import { Module } from './module.js';
import { rotate, type RotaryPositions } from './rotary.js';
import type { Initializer } from './initializers.js';
import type { TraceContext } from './context.js';

/** Added to scores that must not be seen: finite, so that a row without any visible key stays finite as well. */
export const HIDDEN_SCORE = -1e9;

/** Settings of {@link scaledDotProductAttention}. */
export interface AttentionOptions {
  /** Each query sees only keys at its own position or before. */
  readonly causal?: boolean;
  /** Float `[batch, keyTime]`: 1 for real keys, 0 for padding. */
  readonly keyMask?: Tensor | undefined;
  /** Float `[heads, queryTime, keyTime]`, added to the scores. */
  readonly bias?: Tensor | undefined;
  /** Factor on the scores, default 1 / √headSize. T5 uses 1. */
  readonly scale?: number;
  /** Queries handled together when causal: keys to their right are never computed. */
  readonly blockSize?: number;
  /** Applied to the attention probabilities. */
  readonly dropProbabilities?: ((probabilities: Tensor, block: number) => Tensor) | undefined;
}

/**
 * `softmax(scale · Q Kᵀ + bias + mask) V`.
 *
 * Causal attention works in blocks of queries, each against the keys up to its end: the upper triangle costs nothing.
 * The gradient recovers the row sums of the softmax's Jacobian from output · gradient, one pass over `[time, headSize]`
 * instead of two over `[time, time]` (Rabe and Staats; FlashAttention §3).
 *
 * @param query `[batch, heads, queryTime, headSize]`
 * @param key `[batch, heads, keyTime, headSize]`
 * @param value `[batch, heads, keyTime, valueSize]`
 * @returns `[batch, heads, queryTime, valueSize]`
 */
export function scaledDotProductAttention(
  query: Tensor,
  key: Tensor,
  value: Tensor,
  options: AttentionOptions = {},
): Tensor {
  const queryTime = query.shape[2] as number;
  const keyTime = key.shape[2] as number;
  const { causal = false, blockSize = 64 } = options;
  if (!causal) return attendBlock(query, key, value, 0, options);
  if (queryTime !== keyTime) {
    throw new RangeError(`causal attention needs as many queries (${queryTime}) as keys (${keyTime})`);
  }
  const sizes: number[] = [];
  for (let start = 0; start < queryTime; start += blockSize)
    sizes.push(Math.min(blockSize, queryTime - start));
  // Joined from the same pieces for every block, so that the gradients of keys and values add up piece by piece in the
  // cache instead of as padded arrays of full length.
  const prefixes = (x: Tensor): Tensor[] => {
    const pieces = split(x, sizes, 2);
    return sizes.map((_, block) => (block === sizes.length - 1 ? x : concat(pieces.slice(0, block + 1), 2)));
  };
  const [keys, values] = [prefixes(key), prefixes(value)];
  const blocks = split(query, sizes, 2).map((part, block) =>
    attendBlock(part, keys[block], values[block], block * blockSize, options),
  );
  return concat(blocks, 2);
}

function attendBlock(
  query: Tensor,
  key: Tensor,
  value: Tensor,
  start: number,
  { causal = false, keyMask, bias, scale, blockSize = 64, dropProbabilities }: AttentionOptions,
): Tensor {
  const factor = scale ?? 1 / Math.sqrt(query.shape[3] as number);
  const [queryTime, keyTime] = [query.shape[2] as number, key.shape[2] as number];
  let scores = matmul(query, key, { transposeB: true, scale: factor });
  const additions: Tensor[] = [];
  if (causal) additions.push(causalMask(start, queryTime, keyTime, query));
  if (keyMask) {
    const visible = slice(keyMask, 1, 0, keyTime);
    const hidden = multiply(subtract(1, visible), HIDDEN_SCORE);
    additions.push(reshape(hidden, [keyMask.shape[0], 1, 1, keyTime]));
  }
  if (bias) additions.push(slice(slice(bias, 1, start, start + queryTime), 2, 0, keyTime));
  for (const addition of additions) scores = add(scores, addition);
  const probabilities = softmax(scores);
  if (dropProbabilities) return matmul(dropProbabilities(probabilities, start / blockSize), value);
  if (bias) return matmul(probabilities, value);
  const output = matmul(probabilities, value);
  return customGradient(output, [query, key, value], (gradient) => {
    const rowSums = sum(multiply(gradient, output), -1, true);
    const forScores = multiply(
      probabilities,
      subtract(matmul(gradient, value, { transposeB: true }), rowSums),
    );
    return [
      matmul(forScores, key, { scale: factor }),
      matmul(forScores, query, { transposeA: true, scale: factor }),
      matmul(probabilities, gradient, { transposeA: true }),
    ];
  });
}

/** `[queryTime, keyTime]`: 0 where key ≤ start + query. */
function causalMask(start: number, queryTime: number, keyTime: number, like: Tensor): Tensor {
  const data = Float64Array.from({ length: queryTime * keyTime }, (_, at) =>
    at % keyTime <= start + Math.floor(at / keyTime) ? 0 : HIDDEN_SCORE,
  );
  return constant(like.dtype, [queryTime, keyTime], data);
}

/** Sizes of an attention layer. */
export interface AttentionSizes {
  readonly hiddenSize: number;
  readonly numHeads: number;
  /** Heads of keys and values; each serves numHeads / numKeyValueHeads query heads. */
  readonly numKeyValueHeads: number;
  readonly headSize: number;
  readonly bias?: boolean;
  /** A bias on the output projection; as `bias` when absent. */
  readonly outputBias?: boolean;
  /**
   * Norms of queries and keys before they are rotated: over each head's features (`head`, Qwen3), or over those of all
   * heads together (`all`, OLMoE).
   */
  readonly queryKeyNorm?:
    { readonly over: 'head' | 'all'; readonly epsilon?: number | undefined } | undefined;
  /** Queries, keys and values are cut off at ± this (DBRX, OLMoE's `clip_qkv`). */
  readonly clip?: number | undefined;
}

/** What one call of {@link Attention.forward} may use. */
export interface AttentionInputs extends Pick<
  AttentionOptions,
  'causal' | 'keyMask' | 'bias' | 'scale' | 'blockSize'
> {
  readonly rotary?: RotaryPositions;
  /** States to attend to, `[batch, keyTime, hiddenSize]`; the input itself when absent. */
  readonly memory?: Tensor;
  /** What layers with relative positions share: see their own `forward`. */
  readonly relativePositions?: Tensor;
  readonly dropoutRate?: number;
  /** Name of this layer's noise. */
  readonly site: string;
}

/** What attention keeps of tokens so that later ones can attend to them, by name: `[batch, heads, time, size]` each. */
export type CacheEntry = Readonly<Record<string, Tensor>>;

/** Heads and size of every part of a layer's {@link CacheEntry}. */
export type CacheSizes = Readonly<Record<string, { readonly heads: number; readonly size: number }>>;

/** What a layer kept of the tokens before those of a pass. */
export interface AttentionPast {
  /** Parts of `capacity` slots, `[batch, heads, capacity, size]`. Slots out of use hold any finite numbers. */
  readonly entry: CacheEntry;
  /** Float `[batch, capacity]`: 1 for slots in use. */
  readonly mask: Tensor;
  /** Float `[batch, heads, time, capacity]`, added to the scores of these slots. */
  readonly bias?: Tensor | undefined;
}

/** Whatever stands in a block as its attention. */
export interface AttentionLayer {
  /** `[batch, time, hiddenSize]` → the same shape */
  forward(x: Tensor, inputs: AttentionInputs, context: TraceContext): Tensor;
  /** What {@link forwardCached} keeps of a token; absent where a layer cannot go on from a cache. */
  readonly cacheSizes?: CacheSizes;
  /**
   * Causal {@link forward} that keeps what later passes need. `inputs` (masks, biases, positions) are those of x alone.
   * @param past what was kept of the tokens before; undefined where a text begins
   * @returns `[batch, time, hiddenSize]`, and what is to be kept of these tokens
   */
  forwardCached?(
    x: Tensor,
    inputs: AttentionInputs,
    past: AttentionPast | undefined,
    context: TraceContext,
  ): { readonly output: Tensor; readonly entry: CacheEntry };
}

/** `[batch, time, heads · headSize]` → `[batch, heads, time, headSize]` */
export function splitHeads(x: Tensor, heads: number): Tensor {
  const [batch, time, width] = x.shape as [number, number, number];
  return transpose(reshape(x, [batch, time, heads, width / heads]), [0, 2, 1, 3]);
}

/** `[batch, heads, time, headSize]` → `[batch, time, heads · headSize]` */
export function joinHeads(x: Tensor): Tensor {
  const [batch, heads, time, size] = x.shape as [number, number, number, number];
  return reshape(transpose(x, [0, 2, 1, 3]), [batch, time, heads * size]);
}

/** Dropout of attention probabilities block by block; undefined where there is none. */
export function probabilityDropout(
  { dropoutRate: rate = 0, site }: Pick<AttentionInputs, 'dropoutRate' | 'site'>,
  context: TraceContext,
): AttentionOptions['dropProbabilities'] {
  if (!context.training || rate === 0) return undefined;
  return (probabilities, block) => dropout(probabilities, rate, `${site}.probabilities.${block}`, context);
}

/** Multi-head attention; with fewer key/value heads, grouped-query attention (arXiv 2305.13245). */
export class Attention extends Module implements AttentionLayer {
  readonly query: Linear;
  readonly key: Linear;
  readonly value: Linear;
  readonly output: Linear;
  readonly queryNorm: RMSNorm | undefined;
  readonly keyNorm: RMSNorm | undefined;

  constructor(
    private readonly sizes: AttentionSizes,
    weight: Initializer,
    outputWeight: Initializer = weight,
  ) {
    super();
    const { hiddenSize, numHeads, numKeyValueHeads, headSize, bias = false, outputBias = bias } = sizes;
    if (numHeads % numKeyValueHeads !== 0) {
      throw new RangeError(`numHeads ${numHeads} is not divisible by numKeyValueHeads ${numKeyValueHeads}`);
    }
    this.query = new Linear(hiddenSize, numHeads * headSize, weight, { bias });
    this.key = new Linear(hiddenSize, numKeyValueHeads * headSize, weight, { bias });
    this.value = new Linear(hiddenSize, numKeyValueHeads * headSize, weight, { bias });
    this.output = new Linear(numHeads * headSize, hiddenSize, outputWeight, { bias: outputBias });
    const norm = sizes.queryKeyNorm;
    const createNorm = (heads: number): RMSNorm | undefined =>
      norm && new RMSNorm(norm.over === 'head' ? headSize : heads * headSize, norm.epsilon);
    this.queryNorm = createNorm(numHeads);
    this.keyNorm = createNorm(numKeyValueHeads);
  }

  /** `[batch, time, hiddenSize]` → the same shape */
  forward(x: Tensor, inputs: AttentionInputs, context: TraceContext): Tensor {
    return this.attend(x, this.keysAndValues(inputs.memory ?? x, inputs.rotary), inputs, context);
  }

  get cacheSizes(): CacheSizes {
    const { numKeyValueHeads: heads, headSize: size } = this.sizes;
    return { key: { heads, size }, value: { heads, size } };
  }

  forwardCached(
    x: Tensor,
    inputs: AttentionInputs,
    past: AttentionPast | undefined,
    context: TraceContext,
  ): { output: Tensor; entry: CacheEntry } {
    const entry = this.keysAndValues(x, inputs.rotary);
    if (!past) return { output: this.attend(x, entry, inputs, context), entry };
    const attended = cachedAttention(this.queries(x, inputs.rotary), entry, past, inputs);
    return { output: this.output.forward(joinHeads(attended)), entry };
  }

  /** Keys and values of states `[batch, time, hiddenSize]`, each `[batch, numKeyValueHeads, time, headSize]`. */
  keysAndValues(x: Tensor, rotary?: RotaryPositions): { readonly key: Tensor; readonly value: Tensor } {
    const { numKeyValueHeads } = this.sizes;
    return {
      key: rotate(this.heads(this.key.forward(x), numKeyValueHeads, this.keyNorm), rotary),
      value: splitHeads(this.clipped(this.value.forward(x)), numKeyValueHeads),
    };
  }

  /** {@link forward} over keys and values that are there already, as {@link keysAndValues} makes them. */
  attend(
    x: Tensor,
    { key, value }: CacheEntry,
    inputs: Omit<AttentionInputs, 'memory'>,
    context: TraceContext,
  ): Tensor {
    const times = this.sizes.numHeads / this.sizes.numKeyValueHeads;
    const repeated = (states: Tensor): Tensor => (times === 1 ? states : repeatHeads(states, times));
    const query = this.queries(x, inputs.rotary);
    const attended = scaledDotProductAttention(query, repeated(key), repeated(value), {
      ...inputs,
      dropProbabilities: probabilityDropout(inputs, context),
    });
    return this.output.forward(joinHeads(attended));
  }

  private queries(x: Tensor, rotary: RotaryPositions | undefined): Tensor {
    return rotate(this.heads(this.query.forward(x), this.sizes.numHeads, this.queryNorm), rotary);
  }

  /** Heads of queries or keys, normalised and cut off as the sizes say. */
  private heads(projected: Tensor, count: number, norm: RMSNorm | undefined): Tensor {
    const overHeads = norm && this.sizes.queryKeyNorm?.over === 'head';
    const normed = norm && !overHeads ? norm.forward(projected) : projected;
    const heads = splitHeads(this.clipped(normed), count);
    return overHeads ? norm.forward(heads) : heads;
  }

  private clipped(x: Tensor): Tensor {
    const { clip } = this.sizes;
    return clip === undefined ? x : maximum(minimum(x, clip), -clip);
  }
}

/** Each key/value head once per query head that it serves: `[batch, heads, time, size]` → `[batch, heads · n, …]` */
function repeatHeads(x: Tensor, times: number): Tensor {
  const [batch, heads, time, size] = x.shape as number[];
  const open = reshape(x, [batch, heads, 1, time, size]);
  return reshape(broadcastTo(open, [batch, heads, times, time, size]), [batch, heads * times, time, size]);
}
