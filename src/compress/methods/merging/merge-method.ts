/**
 * What all methods that merge experts have in common.
 * @module
 */
import type { CompressionContext, CompressionMethod, LayerCompression, LayerExperts } from '../../method.js';
import { partsWithin } from '../whole.js';
import { groupExperts, type Grouping } from './groups.js';
import { mergeGroups } from './merge-groups.js';

/** How one method merges. */
export interface MergeRule {
  readonly grouping: Grouping;
  /** Whether neurons are put in the order of the first of a group before. */
  readonly aligns: boolean;
  /** Weights of the experts; all alike when absent. */
  readonly weights?: (layer: LayerExperts) => readonly number[];
  readonly needsCalibration: boolean;
}

/** Stores as many experts as the budget holds whole, each of them a mean of several. */
export class MergeMethod implements CompressionMethod {
  readonly needsCalibration: boolean;

  constructor(private readonly rule: MergeRule) {
    this.needsCalibration = rule.needsCalibration;
  }

  async compress(layer: LayerExperts, context: CompressionContext): Promise<LayerCompression> {
    const { grouping, aligns, weights, needsCalibration } = this.rule;
    if (needsCalibration && !layer.calibration)
      throw new RangeError(
        `${layer.name}: this way of merging needs to know what the router did on some text`,
      );
    const groups = groupExperts(layer, partsWithin(context, layer, layer.numExperts, 'experts'), grouping);
    const equal = new Array<number>(layer.numExperts).fill(1);
    return mergeGroups(layer, { groups, weights: weights?.(layer) ?? equal, aligns }, context);
  }
}
