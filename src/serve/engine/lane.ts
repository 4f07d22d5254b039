/**
 * Texts side by side in one store, with room for equally many tokens each.
 * @module
 */
import { KeyValueStore } from '../../decode/index.js';
import type { CacheSizes } from '../../nn/index.js';
import type { TensorData } from '../../runtime/index.js';

/** Where a text is; owned by the lane that it is in. */
export interface Seat<Text extends Seat<Text>> {
  lane: Lane<Text> | undefined;
  row: number;
}

/** Something that a text keeps as it is, besides keys and values of its tokens: numbers of one row. */
export interface FixedPart {
  readonly width: number;
  readonly dtype: 'float32' | 'bool';
}

/** Slots of a text up to which an empty lane keeps a row: single short requests allocate nothing. */
const KEPT_CAPACITY = 256;

/**
 * Texts always fill the first rows, so that a program over the next power of two of them reads the store where it lies:
 * the last text takes the place of one that leaves. Rows double as texts come, and a lane that is empty keeps one at most.
 */
export class Lane<Text extends Seat<Text>> {
  readonly texts: Text[] = [];
  private kept: KeyValueStore;
  private parts: Map<string, TensorData>;

  /**
   * @param sizes what every block keeps of a token
   * @param capacity slots of a text
   */
  constructor(
    private readonly sizes: readonly CacheSizes[],
    readonly capacity: number,
    private readonly fixed: ReadonlyMap<string, FixedPart> = new Map(),
  ) {
    this.kept = new KeyValueStore(sizes, 0, capacity);
    this.parts = new Map();
  }

  /** Tokens of a text. */
  lengthOf(text: Text): number {
    return this.kept.lengths[text.row];
  }

  /**
   * Takes a text in: without a token; or with what another has, wherever that is. A text that is elsewhere leaves it.
   * @param like the text itself, to move it here, or the one that it is a copy of
   */
  add(text: Text, like?: Text): void {
    if (this.texts.length === this.kept.batch) this.resize(Math.max(1, 2 * this.kept.batch));
    const row = this.texts.length;
    if (like?.lane) this.copy(row, like.lane, like.row);
    else this.kept.lengths[row] = 0;
    text.lane?.remove(text);
    this.texts.push(text);
    [text.lane, text.row] = [this, row];
  }

  /** Lets a text go. Nothing of it stays: numbers that are none would reach the next text in its row. */
  remove(text: Text): void {
    const last = this.texts.pop()!;
    this.kept.clear(text.row);
    if (last !== text) {
      this.copy(text.row, this, last.row);
      this.kept.clear(last.row);
      this.texts[text.row] = last;
      last.row = text.row;
    }
    [text.lane, text.row] = [undefined, -1];
    if (this.texts.length === 0) this.forget();
  }

  /** Writes what a text keeps besides its tokens. */
  fix(text: Text, name: string, numbers: TensorData): void {
    this.parts.get(name)!.set(numbers as never, text.row * this.fixed.get(name)!.width);
  }

  /** Feeds of a program over `count` rows, at least as many as there are texts. */
  feeds(count: number): Readonly<Record<string, TensorData>> {
    if (count > this.kept.batch) this.resize(count);
    const fixed = [...this.parts].map(([name, data]) => {
      return [name, data.subarray(0, count * this.fixed.get(name)!.width)] as const;
    });
    return { ...this.kept.feedsOf(count), ...Object.fromEntries(fixed) };
  }

  /** Adds what a pass kept of its tokens: see `KeyValueStore.append`. */
  append(results: Readonly<Record<string, TensorData>>, time: number, counts: readonly number[]): void {
    this.kept.append(results, time, counts);
  }

  private copy(row: number, from: Lane<Text>, other: number): void {
    this.kept.copy(row, from.kept, other);
    for (const [name, { width }] of this.fixed) {
      const numbers = from.parts.get(name)!.subarray(other * width, (other + 1) * width);
      this.parts.get(name)!.set(numbers as never, row * width);
    }
  }

  private forget(): void {
    if (this.capacity > KEPT_CAPACITY) this.resize(0);
    else if (this.kept.batch > 1) this.resize(1);
  }

  private resize(rows: number): void {
    const kept = new KeyValueStore(this.sizes, rows, this.capacity);
    this.texts.forEach((_, row) => kept.copy(row, this.kept, row));
    this.kept = kept;
    this.parts = new Map(
      [...this.fixed].map(([name, { width, dtype }]) => {
        const data = dtype === 'bool' ? new Uint8Array(rows * width) : new Float32Array(rows * width);
        const before = this.parts.get(name)?.subarray(0, Math.min(rows, this.texts.length) * width);
        if (before) data.set(before as never);
        return [name, data];
      }),
    );
  }
}
