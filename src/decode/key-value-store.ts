/**
 * The buffers behind a model's cache: keys and values of a batch of texts, fed where they lie and filled in place.
 * @module
 */
import { cacheShapes } from '../models/index.js';
import type { CacheSizes } from '../nn/index.js';
import type { TensorData } from '../runtime/index.js';

/** Slots for the tokens of a batch of texts, each with its own length. */
export class KeyValueStore {
  /** Slots in use of every text. */
  readonly lengths: Int32Array;
  private shapes: ReturnType<typeof cacheShapes>;
  private parts: ReadonlyMap<string, Float32Array>;

  /**
   * @param layers what every block keeps of a token
   * @param batch texts
   * @param slots of a text
   */
  constructor(
    private readonly layers: readonly CacheSizes[],
    readonly batch: number,
    private slots: number,
  ) {
    this.lengths = new Int32Array(batch);
    this.shapes = cacheShapes(layers, batch, slots);
    this.parts = this.allocate();
  }

  /** Slots a text. */
  get capacity(): number {
    return this.slots;
  }

  /** Feeds of a program that goes on from here, by name. They stay the same buffers until the store grows. */
  get feeds(): Readonly<Record<string, TensorData>> {
    return { ...Object.fromEntries(this.parts), 'cache.lengths': this.lengths };
  }

  /** {@link feeds} of a program over the first `count` texts alone. */
  feedsOf(count: number): Readonly<Record<string, TensorData>> {
    const first = (data: TensorData): TensorData => data.subarray(0, (data.length / this.batch) * count);
    return Object.fromEntries(Object.entries(this.feeds).map(([name, data]) => [name, first(data)]));
  }

  /**
   * A text becomes a copy of one in this store or another of the same model.
   * @throws RangeError if that has more tokens than there are slots here.
   */
  copy(text: number, from: KeyValueStore, other: number): void {
    const length = from.lengths[other];
    if (length > this.slots) throw new RangeError(`a text has ${length} tokens for ${this.slots} slots`);
    for (const [name, [, heads, , size]] of this.shapes) {
      const [here, there] = [this.parts.get(name)!, from.parts.get(name)!];
      for (let head = 0; head < heads; head++) {
        const start = (other * heads + head) * from.slots * size;
        here.set(there.subarray(start, start + length * size), (text * heads + head) * this.slots * size);
      }
    }
    this.lengths[text] = length;
  }

  /** A text becomes empty. Zeros, since a slot that is not in use still takes part with weight 0, and 0 · NaN is NaN. */
  clear(text: number): void {
    for (const [name, [, heads, , size]] of this.shapes) {
      const part = this.parts.get(name)!;
      for (let head = 0; head < heads; head++) {
        const start = (text * heads + head) * this.slots * size;
        part.fill(0, start, start + this.lengths[text] * size);
      }
    }
    this.lengths[text] = 0;
  }

  /** Makes room for more slots a text and moves what is there. Buffers that were bound are no longer those in use. */
  grow(capacity: number): void {
    const before = [...this.parts.values()];
    const from = this.slots;
    this.slots = capacity;
    this.shapes = cacheShapes(this.layers, this.batch, capacity);
    this.parts = this.allocate();
    [...this.shapes.values()].forEach(([, heads, , size], part) => {
      const [old, grown] = [before[part], [...this.parts.values()][part]];
      for (let row = 0; row < this.batch * heads; row++) {
        const used = this.lengths[Math.floor(row / heads)] * size;
        grown.set(old.subarray(row * from * size, row * from * size + used), row * capacity * size);
      }
    });
  }

  /**
   * Adds what a pass over the first texts, or all, kept of its tokens.
   * @param kept outputs of the pass by feed name, `[texts, heads, time, size]` each
   * @param counts how many of the pass's tokens each of its texts has; the first ones
   * @throws RangeError if a text has more tokens than there are slots.
   */
  append(kept: Readonly<Record<string, TensorData>>, time: number, counts: ArrayLike<number>): void {
    for (let text = 0; text < counts.length; text++) {
      if (this.lengths[text] + counts[text] > this.slots)
        throw new RangeError(
          `text ${text} has ${this.lengths[text] + counts[text]} tokens for ${this.slots} slots`,
        );
    }
    for (const [name, [, heads, , size]] of this.shapes) {
      const [slots, fresh] = [this.parts.get(name)!, kept[name] as Float32Array];
      for (let text = 0; text < counts.length; text++) {
        for (let head = 0; head < heads; head++) {
          const row = text * heads + head;
          const start = row * time * size;
          const numbers = fresh.subarray(start, start + counts[text] * size);
          slots.set(numbers, (row * this.slots + this.lengths[text]) * size);
        }
      }
    }
    for (let text = 0; text < counts.length; text++) this.lengths[text] += counts[text];
  }

  /** Text i goes on from where text `texts[i]` is: beams that survive, some of them twice. */
  select(texts: readonly number[]): void {
    for (const part of this.parts.values()) selectRows(part, texts);
    selectRows(this.lengths, texts);
  }

  private allocate(): ReadonlyMap<string, Float32Array> {
    return new Map(
      [...this.shapes].map(([name, shape]) => [name, new Float32Array(shape.reduce((a, b) => a * b, 1))]),
    );
  }
}

/** Row i of an array becomes what row `rows[i]` was. */
export function selectRows(data: TensorData, rows: readonly number[]): void {
  if (rows.every((from, to) => from === to)) return;
  const width = data.length / rows.length;
  const before = data.slice();
  rows.forEach((from, to) => {
    if (from !== to) data.set(before.subarray(from * width, (from + 1) * width) as never, to * width);
  });
}
