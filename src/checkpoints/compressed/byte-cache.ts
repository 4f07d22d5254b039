/**
 * Keeps what was used last, as far as a number of bytes allows.
 * @module
 */

/** Values by key, of which those that were used longest ago are forgotten when their bytes exceed the budget. */
export class ByteCache<Value extends { readonly byteLength: number }> {
  private readonly entries = new Map<string, Value>();
  private used = 0;

  /** @param budget bytes kept at most; a value larger than that is not kept at all. */
  constructor(readonly budget: number) {}

  /** Bytes kept now. */
  get bytes(): number {
    return this.used;
  }

  /** A kept value, which thereby becomes the last one used. */
  get(key: string): Value | undefined {
    const value = this.entries.get(key);
    if (value === undefined) return undefined;
    this.entries.delete(key);
    this.entries.set(key, value);
    return value;
  }

  /** Keeps a value if it fits. */
  set(key: string, value: Value): void {
    this.used -= this.entries.get(key)?.byteLength ?? 0;
    this.entries.delete(key);
    if (value.byteLength > this.budget) return;
    // What must go goes first, so that the budget holds at every moment.
    for (const [oldest, { byteLength }] of this.entries) {
      if (this.used + value.byteLength <= this.budget) break;
      this.entries.delete(oldest);
      this.used -= byteLength;
    }
    this.entries.set(key, value);
    this.used += value.byteLength;
  }
}
