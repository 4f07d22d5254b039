/**
 * Which experts see which kind of token: counts of class × expert, and how much one tells about the other.
 * @module
 */
import { entropy } from '../metrics/index.js';

/** Counts `[classes][experts]` of one sparse layer. */
export class SpecializationTable {
  readonly counts: number[][];

  constructor(
    /** Name of the layer: its index in the model, with the stratum where it has several. */
    readonly layer: string,
    readonly classes: readonly string[],
    readonly numExperts: number,
  ) {
    this.counts = classes.map(() => new Array<number>(numExperts).fill(0));
  }

  /**
   * Counts the choices of one batch.
   * @param classOf index of each token's class, `[tokens]`
   * @param experts `[tokens, topK]`, −1 where nothing was routed
   */
  add(classOf: ArrayLike<number>, experts: ArrayLike<number>): void {
    const topK = experts.length / classOf.length;
    for (let i = 0; i < experts.length; i++) {
      const expert = experts[i];
      if (expert >= 0) this.counts[classOf[Math.floor(i / topK)]][expert]++;
    }
  }

  /** Share of each class's choices that went to each expert; rows of classes without tokens are zeros. */
  shares(): number[][] {
    return this.counts.map((row) => {
      const total = row.reduce((a, b) => a + b, 0);
      return row.map((count) => (total === 0 ? 0 : count / total));
    });
  }

  /**
   * Normalised mutual information of class and expert: 0 when experts ignore the class, 1 when the expert is known
   * from the class or the class from the expert. Divided by the smaller of both entropies.
   */
  mutualInformation(): number {
    const rows = this.counts.map((row) => row.reduce((a, b) => a + b, 0));
    const columns = Array.from({ length: this.numExperts }, (_, e) =>
      this.counts.reduce((sum, row) => sum + row[e], 0),
    );
    const limit = Math.min(entropy(rows), entropy(columns));
    const information = entropy(rows) + entropy(columns) - entropy(this.counts.flat());
    return limit <= 0 ? 0 : Math.max(0, information / limit);
  }
}
