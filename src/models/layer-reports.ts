/**
 * What the feed-forward layers of a model reported, gathered while it is traced.
 * @module
 */
import type { AuxiliaryLoss, FeedForwardOutput, RoutingRecord } from '../moe/index.js';
import type { StateUpdate } from '../nn/index.js';

/** Reports of all layers, in their order. */
export interface ModelReport {
  /** One for each time that a layer routed. */
  readonly records: readonly RoutingRecord[];
  /** Terms of every sparse layer, each with its layer's index. */
  readonly losses: readonly (AuxiliaryLoss & { readonly layerIndex: number })[];
  /** State of routers that follows training without a gradient. */
  readonly updates: readonly StateUpdate[];
}

/** Collects a {@link ModelReport}. */
export class LayerReports implements ModelReport {
  readonly records: RoutingRecord[] = [];
  readonly losses: (AuxiliaryLoss & { layerIndex: number })[] = [];
  readonly updates: StateUpdate[] = [];

  /**
   * Adds what one layer reported.
   * @param layerIndex its index among all layers of the model, which need not be the one it was told
   * @param prefix in front of the names of its records, where a model has several stacks
   */
  add(
    { records, losses, updates = [] }: Omit<FeedForwardOutput, 'output'>,
    layerIndex: number,
    prefix = '',
  ): void {
    this.records.push(...records.map((record) => ({ ...record, layerIndex, name: prefix + record.name })));
    this.losses.push(...losses.map((loss) => ({ ...loss, layerIndex })));
    this.updates.push(...updates);
  }
}
