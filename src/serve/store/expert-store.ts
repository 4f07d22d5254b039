/**
 * The one interface that the engine knows of weights of experts: wherever they are, a few of them at a time are in memory.
 * @module
 */

/** A layer of experts in a store. */
export interface ExpertLayerInfo {
  /** Dotted name of the bank: `blocks.1.feedForward.experts`, `encoder.blocks.1.feedForward.experts`. */
  readonly name: string;
  readonly numExperts: number;
  /** Shapes of one expert's weights by their name in the bank, without the axis of experts: `up` → `[hiddenSize, intermediateSize]`. */
  readonly parameters: Readonly<Record<string, readonly number[]>>;
  /** Bytes of one expert as float32, ready to be computed with. */
  readonly expertBytes: number;
}

/** The weights of one expert, ready to be fed. They stay where they are until the lease is released. */
export interface ExpertLease {
  /** Index of the layer in {@link ExpertStore.layers}. */
  readonly layer: number;
  readonly expert: number;
  /** By their name in the bank, as {@link ExpertLayerInfo.parameters}. */
  readonly weights: Readonly<Record<string, Float32Array>>;
  /** Allows the weights to be evicted. Once is enough; again does nothing. */
  release(): void;
}

/** What a store has done. */
export interface ExpertStoreStats {
  /**
   * Accesses: distinct (pass, layer, expert). An expert that a pass needs in a layer counts once, however many tokens
   * chose it.
   */
  readonly accesses: number;
  /** Accesses whose weights were in memory, wholly read, when the layer's router had decided. */
  readonly hits: number;
  /** Hits on weights that were read ahead and not used before. */
  readonly prefetchedHits: number;
  /** Bytes read from the cold tier. */
  readonly bytesRead: number;
  /** Time that passes waited for weights. */
  readonly stallMilliseconds: number;
  readonly evictions: number;
  /** Experts in memory now. */
  readonly resident: number;
}

/**
 * Weights of experts under a budget. Layers are numbered in the order in which a pass meets them, the encoder's first.
 *
 * A pass calls {@link announce} once for every layer as soon as its router has decided, and then {@link acquire} for the
 * same experts, in one or several parts of at most {@link maxPinned}.
 */
export interface ExpertStore {
  readonly layers: readonly ExpertLayerInfo[];
  /** Experts that can be pinned at once. */
  readonly maxPinned: number;
  /**
   * A router has decided: these distinct experts are about to be acquired. Counts each as a hit or a miss, and begins to
   * read those that are not in memory, in this order, as far as there is room; never blocks.
   * @returns whether each was in memory, wholly read.
   */
  announce(layer: number, experts: readonly number[]): readonly boolean[];
  /**
   * Pins experts, reading those that are not in memory.
   * @returns leases in the order of `experts`, each to be released.
   * @throws RangeError if more are asked for than can be pinned beside those that are pinned already.
   */
  acquire(layer: number, experts: readonly number[]): Promise<readonly ExpertLease[]>;
  /**
   * Begins to read experts that may be needed soon; best effort: never blocks, never evicts what is pinned or announced.
   * @param priority of several that wait, the largest is read first; 0 when absent.
   */
  prefetch(layer: number, experts: readonly number[], priority?: number): void;
  readonly stats: ExpertStoreStats;
  /** Frees files and memory. Leases must not be used any more. */
  close(): Promise<void>;
}
