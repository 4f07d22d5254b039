/**
 * The one interface that the engine knows of weights of experts: wherever they are, a few of them at a time are in memory.
 * @module
 */

/** A layer of experts in a store. */
export interface ExpertLayerInfo {
  /** Dotted name of the bank: `blocks.1.feedForward.experts`, `encoder.blocks.1.feedForward.experts`. */
  readonly name: string;
  readonly numExperts: number;
  /** Shapes of one expert's weights as they lie in memory, by their name in the bank: of `up` `[hiddenSize, intermediateSize]`, or its transpose. */
  readonly parameters: Readonly<Record<string, readonly number[]>>;
  /**
   * Whether matrices lie `[out, in]`, the transpose of the model's parameters: one token times such a matrix runs at the
   * memory's speed (docs/performance.md).
   */
  readonly transposed: boolean;
  /** Bytes of one expert as float32, ready to be computed with. */
  readonly expertBytes: number;
}

/**
 * One expert over tokens as columns.
 * @param columns `[width, tokens]`
 * @param into `[outputWidth, tokens]`
 */
export type ExpertRun = (columns: Float32Array, into: Float32Array, tokens: number) => Promise<void>;

/** The weights of one expert, ready to be fed. They stay where they are until the lease is released. */
export interface ExpertLease {
  /** Index of the layer in {@link ExpertStore.layers}. */
  readonly layer: number;
  readonly expert: number;
  /** By their name in the bank, as {@link ExpertLayerInfo.parameters}. */
  readonly weights: Readonly<Record<string, Float32Array>>;
  /**
   * Computes the expert by a program that already has its weights (of 4 or 8 bits), where there is one; `weights` is then
   * empty.
   */
  readonly run?: ExpertRun;
  /** Allows the weights to be evicted. Once is enough; again does nothing. */
  release(): void;
}

/**
 * What a store has done. An access is a distinct (pass, layer, expert): an expert that a pass needs in a layer counts once,
 * however many tokens chose it. A hit is an access whose weights were in memory, wholly read, when the layer's router had
 * decided. There is no other hit rate in this project.
 */
export interface ExpertStoreStats {
  readonly accesses: number;
  readonly hits: number;
  /** Hits over accesses, 0 … 1, without the first {@link warmUp} accesses; undefined before there were more. */
  readonly hitRate: number | undefined;
  /** Accesses at the start, while memory fills, that {@link hitRate} leaves out. */
  readonly warmUp: number;
  /** Hits on weights that were read ahead and not used before. */
  readonly prefetchedHits: number;
  /** Misses whose weights were being read ahead already. */
  readonly latePrefetches: number;
  /** Reads from the cold tier that were completed, and those of them that were ahead of a decision. */
  readonly reads: number;
  readonly prefetchReads: number;
  readonly failedReads: number;
  /** Experts that were read ahead and evicted without a use. */
  readonly unusedPrefetches: number;
  /** Bytes that completed reads moved. */
  readonly bytesRead: number;
  /** Of all completed reads together, from their start to weights that can be used; reads run beside each other. */
  readonly readMilliseconds: number;
  /** Time in which somebody waited for weights. */
  readonly stallMilliseconds: number;
  readonly evictions: number;
  /** Experts in memory now, wholly read. */
  readonly resident: number;
  /** Experts that memory has places for. */
  readonly slots: number;
  /** Experts that are leased now. */
  readonly pinned: number;
  /** Whether the system's page cache takes part in reads; if it does, bytes of them need not come from the disk. */
  readonly pageCache: 'bypassed' | 'used';
}

/** What happens in a store, as it happens. */
export type ExpertStoreEvent =
  | { readonly kind: 'access'; readonly layer: number; readonly expert: number; readonly hit: boolean }
  | {
      readonly kind: 'read';
      readonly layer: number;
      readonly expert: number;
      readonly bytes: number;
      readonly milliseconds: number;
      /** Whether nobody had asked for it when it began. */
      readonly ahead: boolean;
    }
  | { readonly kind: 'evicted'; readonly layer: number; readonly expert: number };

/** Where an expert is: on its way while it is `reading`, in memory while it is `ready`, and `pinned` while it is leased. */
export type ExpertPlace = 'cold' | 'reading' | 'ready' | 'pinned';

/** The experts of one layer, one entry each. */
export interface LayerExperts {
  readonly places: readonly ExpertPlace[];
  /** Accesses so far. */
  readonly accesses: readonly number[];
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
   * Takes back the announcement of experts that will not be acquired after all, because their pass has failed. What was read
   * for it stays until something else needs its place.
   */
  withdraw(layer: number, experts: readonly number[]): void;
  /**
   * Pins experts, reading those that are not in memory; experts that were not announced are counted now. Waits until
   * enough others are released, in the order of calls: who holds leases while asking for more must know that they fit.
   * @returns leases in the order of `experts`, each to be released.
   * @throws RangeError if more than {@link maxPinned} distinct experts are asked for, or there is no such expert.
   * @throws ExpertReadError if one of them cannot be read; the others are released.
   */
  acquire(layer: number, experts: readonly number[]): Promise<readonly ExpertLease[]>;
  /**
   * Begins to read experts that the layer's next decision may need; best effort: never blocks, and never evicts what is
   * pinned, announced, or expected as soon itself. What is still waiting when the layer decides is forgotten.
   * @param priority of several that wait, the largest is read first; 0 when absent.
   */
  prefetch(layer: number, experts: readonly number[], priority?: number): void;
  readonly stats: ExpertStoreStats;
  /** Where the experts of each layer are, for those who watch; absent where all are in memory for good. */
  readonly experts?: readonly LayerExperts[];
  /** @returns a function that ends it. */
  observe(listener: (event: ExpertStoreEvent) => void): () => void;
  /** Ends when running reads have ended; what waits is refused. Leases must not be used any more. */
  close(): Promise<void>;
}
