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
  /** Experts that the layer chooses among: fewer than numExperts in later strata, the last of them. */
  readonly visibleExperts: number;
  /** Choices per expert. */
  readonly load: readonly number[];
  /** Experts that would carry the entropy of the load evenly. */
  readonly effectiveExperts: number;
  /** Entropy of the load over its maximum. */
  readonly balance: number;
  /** Standard deviation of the experts' percentages of all choices. */
  readonly loadDeviation: number;
  readonly coefficientOfVariation: number;
  /** Visible experts without a token. */
  readonly dead: readonly number[];
  /** Share of all gate weight per expert. */
  readonly selectionMass: readonly number[];
  /** `[numExperts][numExperts]`, rows sum to 1; absent where a token has one choice. */
  readonly coOccurrence?: readonly (readonly number[])[];
}

/** Figures of one layer of a trace. */
export function layerProfile(layer: LayerTrace, { rows }: Pick<RoutingTrace, 'rows'>): LayerProfile {
  const { name, numExperts, firstExpert, topK, experts, gates, probabilities } = layer;
  const load = new Array<number>(numExperts).fill(0);
  for (const expert of experts) if (expert >= 0) load[expert]++;
  const visible = load.slice(firstExpert);
  const { balance, coefficientOfVariation, dead } = loadStatistics(load, firstExpert);
  const first = firstChoices(layer);
  // A token that does not come here has no opinion to measure.
  const asked = probabilities.filter((_, i) => first[Math.floor(i / numExperts)] >= 0);
  const seen = asked.filter((_, i) => i % numExperts >= firstExpert);
  return {
    layer: name,
    numExperts,
    topK,
    visibleExperts: visible.length,
    load,
    effectiveExperts: effectiveExperts(load),
    balance,
    loadDeviation: loadDeviation(visible),
    coefficientOfVariation,
    dead,
    selectionMass: selectionMass(experts, gates, numExperts),
    ...decisiveness(seen, visible.length),
    ...runStatistics(first, rows),
    ...(topK > 1 ? { coOccurrence: coOccurrence(experts, topK, numExperts) } : {}),
  };
}
