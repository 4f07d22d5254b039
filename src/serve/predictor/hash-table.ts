/**
 * SiDA's hash table: for every token and layer of some texts, the experts and the weights of their outputs.
 * @module
 */
import type { LayerPrediction } from './predictor-program.js';

/** One layer of a table. */
export interface LayerTable {
  /** Name of the layer's routing record. */
  readonly name: string;
  /** Experts of a token. */
  readonly topK: number;
  /** `[positions, topK]`, most probable first; texts one after the other, without padding. */
  readonly experts: Int32Array;
  /** `[positions, topK]`: SiDA's α, the predictor's softmax over all experts at these; not renormalised. */
  readonly alphas: Float32Array;
  /** The load list: distinct experts, those that more tokens need first. */
  readonly distinct: readonly number[];
}

/** What was predicted for some texts. Layers are found by name, never by their place. */
export interface HashTable {
  /** The texts. */
  readonly rows: readonly Int32Array[];
  readonly layers: ReadonlyMap<string, LayerTable>;
}

/** Table of texts from what a predictor said about them. */
export function hashTable(rows: readonly Int32Array[], predictions: readonly LayerPrediction[]): HashTable {
  return {
    rows,
    layers: new Map(
      predictions.map(({ layer: { name, numExperts }, topK, experts, probabilities }) => [
        name,
        { name, topK, experts, alphas: probabilities, distinct: byDemand(experts, numExperts) },
      ]),
    ),
  };
}

/** Distinct experts ≥ 0, the most wanted first. */
export function byDemand(experts: Int32Array, numExperts: number): number[] {
  const counts = new Int32Array(numExperts);
  for (const expert of experts) if (expert >= 0) counts[expert]++;
  return Array.from(counts.keys())
    .filter((expert) => counts[expert] > 0)
    .sort((a, b) => counts[b] - counts[a]);
}

/** Where tables come from. */
export interface TableSource {
  /** The table of the texts of one pass. */
  tableFor(rows: readonly Int32Array[]): Promise<HashTable>;
}

/** Computes tables: a predictor in this process, or in one of its own. */
export interface TablePredictor {
  predict(rows: readonly Int32Array[]): Promise<readonly LayerPrediction[]>;
}
