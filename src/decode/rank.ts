/**
 * Tokens by falling score.
 * @module
 */

/** Ids take the low 21 bits of a key, scores the 32 above: 53 bits, which a double holds exactly. */
const ID_BITS = 2 ** 21;

/**
 * Ids by falling score, equal scores by rising id. Sorts numbers natively, without a comparison function: a vocabulary of
 * 50,000 takes a few milliseconds; its first few hundred a tenth of that.
 *
 * @param count of the first ones; all when absent
 * @throws RangeError if a score is not a number, or there are more than 2²¹.
 */
export function rank(scores: Float32Array, count = scores.length): Uint32Array {
  const keys = keysOf(scores);
  const first = count > scores.length / 8 ? keys : largest(keys, count);
  first.sort();
  const ids = new Uint32Array(Math.min(count, scores.length));
  for (let i = 0; i < ids.length; i++) ids[i] = ID_BITS - 1 - (first[first.length - 1 - i] % ID_BITS);
  return ids;
}

/** Numbers in the order of scores. */
function keysOf(scores: Float32Array): Float64Array {
  if (scores.length > ID_BITS)
    throw new RangeError(`${scores.length} tokens are too many; ${ID_BITS} can be ranked`);
  const bits = new Int32Array(1);
  const view = new Float32Array(bits.buffer);
  const keys = new Float64Array(scores.length);
  for (let id = 0; id < scores.length; id++) {
    if (Number.isNaN(scores[id])) throw new RangeError(`the score of token ${id} is not a number`);
    // −0 becomes 0, which it equals.
    view[0] = scores[id] + 0;
    // The bits of a float rise with it once negative ones are turned over.
    const rising = (bits[0] < 0 ? ~bits[0] : bits[0] ^ -2147483648) >>> 0;
    keys[id] = rising * ID_BITS + (ID_BITS - 1 - id);
  }
  return keys;
}

/** The largest keys in any order: a heap whose root, the least of them, gives way. */
function largest(keys: Float64Array, count: number): Float64Array {
  const heap = keys.slice(0, count).sort();
  for (let i = count; i < keys.length; i++) {
    const key = keys[i];
    if (!(key > heap[0])) continue;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= count) break;
      if (child + 1 < count && heap[child + 1] < heap[child]) child++;
      if (heap[child] >= key) break;
      heap[at] = heap[child];
      at = child;
    }
    heap[at] = key;
  }
  return heap;
}
