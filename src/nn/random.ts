/**
 * Counter-based random numbers: value `i` of stream `key` is a pure function of both.
 *
 * Nothing is ever "advanced", so noise can be drawn again after a resume, in any order and on any thread, and
 * two sites of one model never share a stream. Keys come from {@link streamKey}; the mixing function is the
 * 32-bit finaliser of MurmurHash3 applied twice with the key in between.
 * @module
 */

function mix(value: number): number {
  let h = value | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/**
 * Makes the 32-bit key of a stream from its parts, such as `(seed, step, 'blocks.0.dropout')`.
 *
 * @example
 * const key = streamKey(1234, step, 'blocks.0.attention.dropout');
 */
export function streamKey(...parts: readonly (number | string)[]): number {
  let key = 0x9e3779b9;
  for (const part of parts) {
    if (typeof part === 'number') {
      // Seeds and steps may exceed 32 bits: both halves count.
      key = mix(key ^ mix(part % 4294967296)) + mix(Math.floor(part / 4294967296) ^ 0x27d4eb2f);
    } else {
      for (let i = 0; i < part.length; i++) key = mix(key ^ (part.charCodeAt(i) + 0x9e3779b9));
      key = mix(key + part.length);
    }
  }
  return key >>> 0;
}

/** Unsigned 32-bit integer `index` of stream `key`. */
export function bitsAt(key: number, index: number): number {
  return mix(mix(index ^ key) + Math.imul(key, 0x9e3779b1));
}

/** Number `index` of stream `key`, uniform in [0, 1). */
export function uniformAt(key: number, index: number): number {
  return bitsAt(key, index) / 4294967296;
}

/** Fills `out` with numbers of stream `key`, uniform in [low, high). */
export function fillUniform(key: number, out: Float32Array | Float64Array, low = 0, high = 1): void {
  // In single precision only 24 bits fit: the rest is cut off, or the largest numbers would round up to `high`.
  const cut = out instanceof Float32Array ? 8 : 0;
  const scale = (high - low) / 2 ** (32 - cut);
  for (let i = 0; i < out.length; i++) out[i] = low + scale * (bitsAt(key, i) >>> cut);
}

/** Fills `out` with independent normal numbers of mean 0 (Box–Muller, one counter pair each). */
export function fillNormal(key: number, out: Float32Array | Float64Array, standardDeviation = 1): void {
  for (let i = 0; i < out.length; i++) out[i] = standardDeviation * normalAt(key, i);
}

/** Fills `out` with a normal distribution cut at ±2 standard deviations by redrawing, as T5 and Switch initialise. */
export function fillTruncatedNormal(
  key: number,
  out: Float32Array | Float64Array,
  standardDeviation = 1,
): void {
  for (let i = 0; i < out.length; i++) {
    let value = normalAt(key, i);
    for (let attempt = 1; Math.abs(value) > 2; attempt++) value = normalAt(streamKey(key, attempt), i);
    out[i] = standardDeviation * value;
  }
}

function normalAt(key: number, index: number): number {
  const radius = Math.sqrt(-2 * Math.log(1 - uniformAt(key, 2 * index)));
  return radius * Math.cos(2 * Math.PI * uniformAt(key, 2 * index + 1));
}

/**
 * A cursor over one stream, for code that draws an unknown count of numbers. `position` is all of its state:
 * save it, restore it, and the same numbers follow.
 *
 * @example
 * const random = new RandomStream(streamKey(seed, 'corpus'));
 * const language = languages[random.integer(languages.length)];
 */
export class RandomStream {
  constructor(
    readonly key: number,
    public position = 0,
  ) {}

  /** Next number, uniform in [0, 1). */
  uniform(): number {
    return uniformAt(this.key, this.position++);
  }

  /** Next integer, uniform in 0 … `below` − 1. */
  integer(below: number): number {
    return Math.floor(this.uniform() * below);
  }

  /** Next element of a non-empty list. */
  pick<T>(items: readonly T[]): T {
    return items[this.integer(items.length)];
  }
}
