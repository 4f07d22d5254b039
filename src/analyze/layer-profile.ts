/**
 * One layer's routing in figures: who is chosen, how surely, with whom, and for how long.
 * @module
 */
import {
  coOccurrence,
  decisiveness,
  effectiveExperts,
  loadDeviation,
  loadStatistics,
  runStatistics,
  selectionMass,
  type Decisiveness,
  type RunStatistics,
} from '../metrics/index.js';
import { firstChoices, type LayerTrace, type RoutingTrace } from './routing-trace.js';

/** Figures of one layer over a set of tokens. */
export interface LayerProfile extends Decisiveness, RunStatistics {
  readonly layer: string;
  readonly numExperts: number;
  readonly topK: number;
  /** Choices per expert. */
  readonly load: readonly number[];
  /** Experts that would carry the entropy of the load evenly. */
  readonly effectiveExperts: number;
  /** Entropy of the load over its maximum. */
  readonly balance: number;
  /** Standard deviation of the experts' percentages of all choices. */
  readonly loadDeviation: number;
  readonly coefficientOfVariation: number;
  /** Experts without a token. */
  readonly dead: readonly number[];
  /** Share of all gate weight per expert. */
  readonly selectionMass: readonly number[];
  /** `[numExperts][numExperts]`, rows sum to 1; absent where a token has one choice. */
  readonly coOccurrence?: readonly (readonly number[])[];
}

/** Figures of one layer of a trace. */
export function layerProfile(layer: LayerTrace, { rows }: Pick<RoutingTrace, 'rows'>): LayerProfile {
  const { name, numExperts, topK, experts, gates, probabilities } = layer;
  const load = new Array<number>(numExperts).fill(0);
  for (const expert of experts) if (expert >= 0) load[expert]++;
  const { balance, coefficientOfVariation, dead } = loadStatistics(load);
  return {
    layer: name,
    numExperts,
    topK,
    load,
    effectiveExperts: effectiveExperts(load),
    balance,
    loadDeviation: loadDeviation(load),
    coefficientOfVariation,
    dead,
    selectionMass: selectionMass(experts, gates, numExperts),
    ...decisiveness(probabilities, numExperts),
    ...runStatistics(firstChoices(layer), rows),
    ...(topK > 1 ? { coOccurrence: coOccurrence(experts, topK, numExperts) } : {}),
  };
}
