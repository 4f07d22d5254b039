/**
 * Layers come in their order: what was just used is used last.
 * @module
 */
import { z } from 'zod';
import type { Kind } from '../../../moe/index.js';
import { ExpertNumbers, type CachePolicy, type ExpertId, type PolicySurroundings } from '../cache-policy.js';
import { LfuPolicy } from './lfu.js';

/**
 * The expert whose layer comes last gives way: that of the layer which is being computed first, then of the one before it
 * (arXiv 2602.03921 calls the others' habit of evicting the next layer collision misses). Within a layer the least
 * frequently used.
 */
export class LayeredPolicy implements CachePolicy {
  private readonly frequency = new LfuPolicy();
  private readonly numbers: ExpertNumbers;
  private readonly numLayers: number;
  private current = 0;

  constructor({ numExperts }: Pick<PolicySurroundings, 'numExperts'>) {
    this.numbers = new ExpertNumbers(numExperts);
    this.numLayers = numExperts.length;
  }

  needed(layer: number, experts: readonly ExpertId[]): void {
    this.current = layer;
    this.frequency.needed(layer, experts);
  }

  loaded(expert: ExpertId): void {
    this.frequency.loaded(expert);
  }

  evicted(expert: ExpertId): void {
    this.frequency.evicted(expert);
  }

  expected(): void {}

  compare(a: ExpertId, b: ExpertId): number {
    return this.stepsUntil(b) - this.stepsUntil(a) || this.frequency.compare(a, b);
  }

  /** Layers until that of an expert comes again: 1 for the next one, all of them for the current. */
  private stepsUntil(expert: ExpertId): number {
    const ahead = this.numbers.layerOf(expert) - this.current;
    return ahead > 0 ? ahead : ahead + this.numLayers;
  }
}

const schema = z.strictObject({ kind: z.literal('layered') });

/** `layered` among the policies. */
export const layered: Kind<typeof schema, PolicySurroundings, CachePolicy> = {
  schema,
  create: (_, surroundings) => new LayeredPolicy(surroundings),
};
