/**
 * Reads ahead for text that is being written: what a causal predictor says of each new token.
 * @module
 */
import type { PassStart, Prefetcher } from '../engine/hooks.js';
import type { ExpertStore } from '../store/index.js';
import type { CausalPredictor, TextMemory } from './causal-predictor.js';
import { byDemand } from './hash-table.js';
import { predictedNames } from './routing-modes.js';

/**
 * `prefetch` for passes that go on from a cache. A lane of texts is known by its cache's memory; a text that comes into a
 * lane without what it has been so far is predicted from the tokens that follow, which costs hits alone. The routers
 * decide, and what is computed is what it would be without.
 */
export class CausalPrefetch implements Prefetcher {
  private readonly indices: readonly number[];
  private readonly lanes = new WeakMap<object, (TextMemory | undefined)[]>();

  /** @throws PredictorError if a predicted layer is in no layer of the store. */
  constructor(
    private readonly store: Pick<ExpertStore, 'layers' | 'prefetch'>,
    private readonly predictor: CausalPredictor,
  ) {
    const names = predictedNames(store, predictor.layers);
    this.indices = predictor.layers.map(({ name }) => names.indexOf(name));
  }

  async begin(start: PassStart): Promise<void> {
    // A pass can do without guesses; a memory that was left behind is begun anew, by its length.
    const guesses = await this.guess(start).catch(() => undefined);
    guesses?.forEach((chosen, l) => {
      const wanted = byDemand(Int32Array.from(chosen), this.predictor.layers[l].numExperts);
      if (wanted.length > 0) this.store.prefetch(this.indices[l], wanted, this.indices.length - l);
    });
  }

  /** Experts of all new tokens, for each predicted layer; undefined for a pass that has no such tokens. */
  private async guess({ feeds, shapes }: PassStart): Promise<readonly number[][] | undefined> {
    const tokens = feeds['tokens'] as Int32Array | undefined;
    const [rows, time] = shapes['tokens'] ?? [0, 0];
    if (!tokens || rows * time !== tokens.length) return undefined;
    const mask = feeds['mask'] as Uint8Array | undefined;
    const lengths = feeds['cache.lengths'] as Int32Array | undefined;
    const memories = this.memoriesOf(feeds, rows);
    const guesses: number[][] = this.indices.map(() => []);
    for (let row = 0; row < rows; row++) {
      const before = lengths?.[row] ?? 0;
      let memory = memories[row];
      if (memory?.length !== before) memory = { ...this.predictor.begin(), length: before };
      for (let t = 0; t < time; t++) {
        if (mask && !mask[row * time + t]) break;
        const experts = await this.predictor.next(memory, tokens[row * time + t]);
        experts.forEach((chosen, l) => guesses[l].push(...chosen));
      }
      memories[row] = memory;
    }
    return guesses;
  }

  /** What is remembered of the texts of a lane; nothing of passes without a cache. */
  private memoriesOf(feeds: PassStart['feeds'], rows: number): (TextMemory | undefined)[] {
    const cache = Object.entries(feeds).find(
      ([name]) => name.startsWith('cache.') && name !== 'cache.lengths',
    );
    const lane = cache && this.lanes.get(cache[1].buffer);
    if (lane?.length === rows) return lane;
    const fresh = new Array<TextMemory | undefined>(rows).fill(undefined);
    if (cache) this.lanes.set(cache[1].buffer, fresh);
    return fresh;
  }
}
