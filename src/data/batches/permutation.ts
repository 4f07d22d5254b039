/**
 * Shuffling without a list: element `i` of a random order of 0 … n − 1 as a pure function.
 * @module
 */
import { bitsAt } from '../../nn/random.js';

const rounds = 6;

/**
 * Where a keyed permutation of 0 … `count` − 1 sends `index`. A balanced Feistel network shuffles the next larger
 * power of four, and values outside the range walk on until they fall inside (at most 4 steps on average), so an
 * order of any length costs no memory and can be entered anywhere.
 * @param count at most 2^52.
 */
export function permute(key: number, count: number, index: number): number {
  let halfBits = 1;
  while (4 ** halfBits < count) halfBits++;
  const half = 2 ** halfBits;
  let value = index;
  do {
    let left = Math.floor(value / half);
    let right = value % half;
    for (let round = 0; round < rounds; round++) {
      const mixed = (left ^ bitsAt(key + Math.imul(round, 0x9e3779b9), right)) >>> 0;
      left = right;
      right = mixed % half;
    }
    value = left * half + right;
  } while (value >= count);
  return value;
}
