/**
 * Static lengths for sequences of any length: a program is compiled once a bucket, not once a length.
 * @module
 */

/** The sizes 1, 2, 3, 4, 6, 8, 12, 16 …: at most a half is padding below 4, at most a third above. */
export function bucketOf(length: number, longest: number): number {
  let power = 1;
  while (power < length) power *= 2;
  const between = (power * 3) / 4;
  const bucket = Number.isInteger(between) && between >= length ? between : power;
  return Math.max(Math.min(bucket, longest), length);
}

/** Keeps what was made for each bucket. */
export class PerBucket<Made extends { release(): Promise<void> }> {
  private readonly made = new Map<number, Promise<Made>>();

  constructor(
    private readonly longest: number,
    private readonly make: (length: number) => Promise<Made>,
  ) {}

  /** What serves sequences of up to this length, with the length that it was made for. */
  async for(length: number): Promise<{ readonly length: number; readonly program: Made }> {
    const bucket = bucketOf(length, this.longest);
    let program = this.made.get(bucket);
    if (!program) this.made.set(bucket, (program = this.make(bucket)));
    return { length: bucket, program: await program };
  }

  /** Frees everything. */
  async release(): Promise<void> {
    for (const program of this.made.values()) await (await program).release();
    this.made.clear();
  }
}
