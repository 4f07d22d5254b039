/**
 * Fetches from passes which experts their tokens went to.
 * @module
 */
import type { Tensor } from '../../graph/index.js';
import type { RoutingRecord } from '../../moe/index.js';
import type { TensorData } from '../../runtime/index.js';
import type { RoutedLayerInfo, TokenRouting } from '../engine-client.js';

/** Names of all routed layers of one model, and the places of their decisions in a token's trace. */
export class RoutingTap {
  private readonly places: readonly number[][];

  constructor(readonly layers: readonly RoutedLayerInfo[]) {
    this.places = layers.map(({ topK }) => new Array<number>(topK).fill(-1));
  }

  /**
   * What one traced pass over a whole model recorded, as layers.
   * @param guesses experts of a token in other passes; as in this one when absent
   */
  static of(records: readonly RoutingRecord[], guesses?: number): RoutingTap {
    return new RoutingTap(
      records.map(({ name, layerIndex, numExperts, topK }) => {
        return { name, layerIndex, numExperts, topK: Math.min(guesses ?? topK, numExperts) };
      }),
    );
  }

  /** Outputs of a pass that has these records. */
  outputs(records: readonly RoutingRecord[]): Record<string, Tensor> {
    return Object.fromEntries(records.map(({ name, experts }) => [outputName(name), experts]));
  }

  /** The experts of one token of a pass, −1 in layers that it had not. */
  read(results: Readonly<Record<string, TensorData | undefined>>, token: number): TokenRouting {
    return this.layers.map(({ name, topK }, layer) => {
      const experts = results[outputName(name)] as Int32Array | undefined;
      return experts ? Array.from(experts.subarray(token * topK, (token + 1) * topK)) : this.places[layer];
    });
  }
}

function outputName(layer: string): string {
  return `routing.${layer}`;
}
