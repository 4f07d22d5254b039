/**
 * Attention to tokens of earlier passes: their keys and values are read where they lie.
 * @module
 */
import {
  add,
  concat,
  constant,
  matmul,
  multiply,
  reshape,
  slice,
  softmax,
  subtract,
  type Tensor,
} from '../graph/index.js';
import { HIDDEN_SCORE, type AttentionOptions, type AttentionPast, type CacheEntry } from './attention.js';

/**
 * Causal attention of the tokens of a pass to those before it and to themselves. The past is never copied: scores
 * against it and against the new keys are joined, not the keys. Query heads that share a key head are rows of one
 * product, so that a cache of fewer heads costs its own bytes only.
 *
 * @param query `[batch, heads, time, headSize]`
 * @param fresh `key` and `value` of the same tokens, `[batch, keyHeads, time, size]`
 * @param past `key` and `value` of those before
 * @param options masks and bias of the fresh keys; the bias is `[heads, time, time]`
 * @returns `[batch, heads, time, valueSize]`
 */
export function cachedAttention(
  query: Tensor,
  fresh: CacheEntry,
  past: AttentionPast,
  { keyMask, bias, scale }: Pick<AttentionOptions, 'keyMask' | 'bias' | 'scale'>,
): Tensor {
  const [batch, heads, time, headSize] = query.shape as [number, number, number, number];
  const keyHeads = fresh['key'].shape[1] as number;
  const valueSize = fresh['value'].shape[3] as number;
  const capacity = past.mask.shape[1] as number;
  const rows = (heads / keyHeads) * time;
  // Scaled here: a product with a factor of its own cannot use the kernel for a single row.
  const scaled = multiply(query, scale ?? 1 / Math.sqrt(headSize));
  const grouped = reshape(scaled, [batch, keyHeads, rows, headSize]);
  const scores = (keys: Tensor, additions: readonly (Tensor | undefined)[]): Tensor => {
    const products = matmul(grouped, keys, { transposeB: true });
    const byHead = reshape(products, [batch, heads, time, keys.shape[2]]);
    return additions.reduce<Tensor>((sum, addition) => (addition ? add(sum, addition) : sum), byHead);
  };
  const before = scores(past.entry['key'], [hidden(past.mask), past.bias]);
  const now = scores(fresh['key'], [causal(time, query), keyMask && hidden(keyMask), bias]);
  const probabilities = softmax(concat([before, now], 3));
  const weigh = (from: number, to: number, values: Tensor): Tensor =>
    matmul(reshape(slice(probabilities, 3, from, to), [batch, keyHeads, rows, to - from]), values);
  const read = add(weigh(0, capacity, past.entry['value']), weigh(capacity, capacity + time, fresh['value']));
  return reshape(read, [batch, heads, time, valueSize]);
}

/** `[batch, keys]` of 1 and 0 → what is added to scores. */
function hidden(mask: Tensor): Tensor {
  const [batch, keys] = mask.shape;
  return reshape(multiply(subtract(1, mask), HIDDEN_SCORE), [batch, 1, 1, keys]);
}

/** `[time, time]`: 0 where a key is not after the query; nothing for a single token. */
function causal(time: number, like: Tensor): Tensor | undefined {
  if (time === 1) return undefined;
  const data = Float64Array.from({ length: time * time }, (_, at) =>
    at % time <= Math.floor(at / time) ? 0 : HIDDEN_SCORE,
  );
  return constant(like.dtype, [time, time], data);
}
