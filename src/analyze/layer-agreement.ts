/**
 * How far the layers of a model route alike (Omni-router §9.1–4).
 *
 * Experts are numbered on their own in every layer, so an agreement of numbers means something only where layers share
 * their router; all other statistics look past the names. What time-shuffled labels still agree on is the chance level.
 * @module
 */
import {
  canonicalCorrelations,
  contingency,
  cramersV,
  indicatorCorrelation,
  matchedAgreement,
  normalizedMutualInformation,
  pairDisagreement,
  rawAgreement,
  runningAverage,
} from '../metrics/index.js';
import { RandomStream, streamKey } from '../nn/index.js';
import { firstChoices, stretchesOf, type LayerTrace, type RoutingTrace } from './routing-trace.js';

/** Statistics of a pair of layers, by key. */
export const agreementStatistics = [
  'matched',
  'matchedChance',
  'mutualInformation',
  'mutualInformationChance',
  'cramersV',
  'pearson',
  'canonical',
  'raw',
] as const;

/** Key of a statistic. */
export type AgreementStatistic = (typeof agreementStatistics)[number];

/** One statistic over all pairs of layers. */
export interface AgreementMap {
  /** `[layers][layers]`, symmetric. */
  readonly map: readonly (readonly number[])[];
  /** Mean over neighbouring layers. */
  readonly adjacent: number;
  /** Mean over all pairs of different layers. */
  readonly all: number;
  /** Mean over pairs that are 1, 2, … layers apart. */
  readonly byDistance: readonly number[];
}

/** Agreement of all layers with each other. */
export interface LayerAgreement {
  readonly layers: readonly string[];
  readonly statistics: Readonly<Record<AgreementStatistic, AgreementMap>>;
  /** Pairs of tokens that are together in one layer and apart in the next: lower is more stable (adaptive clustering §12). */
  readonly routerStability: readonly {
    readonly from: string;
    readonly to: string;
    /** Mean over the batches. */
    readonly mean: number;
    /** The paper's running average, 0.8 old and 0.2 new, after the last batch. */
    readonly running: number;
  }[];
}

/** Canonical correlations settle long before this many tokens, and their cost grows with experts squared. */
const CANONICAL_TOKENS = 4096;

/**
 * All statistics of a trace.
 * @param options `shuffles`: shuffled copies that the chance level is averaged over, default 5; `seed` of the shuffles
 */
export function layerAgreement(
  trace: RoutingTrace,
  { seed = 1, shuffles = 5 }: { readonly seed?: number; readonly shuffles?: number } = {},
): LayerAgreement {
  const { layers } = trace;
  const labels = layers.map(firstChoices);
  const pairs = layers.map((a, i) =>
    layers.map((b, j) =>
      j < i
        ? undefined
        : pairStatistics([a, labels[i]], [b, labels[j]], shuffles, streamKey(seed, 'agreement', i, j)),
    ),
  );
  const statistics = Object.fromEntries(
    agreementStatistics.map((key) => [
      key,
      summarize(layers.map((_, i) => layers.map((_layer, j) => pairs[Math.min(i, j)][Math.max(i, j)]![key]))),
    ]),
  ) as Record<AgreementStatistic, AgreementMap>;
  const routerStability = layers.slice(1).map((to, i) => {
    const values = stabilityByBatch(trace, [layers[i], labels[i]], [to, labels[i + 1]]);
    return {
      from: layers[i].name,
      to: to.name,
      mean: values.reduce((a, b) => a + b, 0) / Math.max(1, values.length),
      running: runningAverage(values),
    };
  });
  return { layers: layers.map(({ name }) => name), statistics, routerStability };
}

type Labelled = readonly [layer: LayerTrace, labels: Int32Array];

function pairStatistics(
  [a, labelsA]: Labelled,
  [b, labelsB]: Labelled,
  shuffles: number,
  key: number,
): Record<AgreementStatistic, number> {
  const table = contingency(labelsA, labelsB, a.numExperts, b.numExperts);
  const both = Array.from(labelsA.keys()).filter((t) => labelsA[t] >= 0 && labelsB[t] >= 0);
  const shuffled = both.map((t) => labelsB[t]);
  const still = both.map((t) => labelsA[t]);
  const random = new RandomStream(key);
  let [matchedChance, informationChance] = [0, 0];
  for (let round = 0; round < shuffles; round++) {
    for (let i = shuffled.length - 1; i > 0; i--) {
      const j = random.integer(i + 1);
      [shuffled[i], shuffled[j]] = [shuffled[j], shuffled[i]];
    }
    const chance = contingency(still, shuffled, a.numExperts, b.numExperts);
    matchedChance += matchedAgreement(chance) / shuffles;
    informationChance += normalizedMutualInformation(chance) / shuffles;
  }
  const head = ({ probabilities, numExperts }: LayerTrace): Float32Array =>
    probabilities.subarray(0, CANONICAL_TOKENS * numExperts);
  const canonical = canonicalCorrelations(head(a), a.numExperts, head(b), b.numExperts);
  return {
    matched: matchedAgreement(table),
    matchedChance,
    mutualInformation: normalizedMutualInformation(table),
    mutualInformationChance: informationChance,
    cramersV: cramersV(table),
    pearson: indicatorCorrelation(table),
    canonical: canonical.reduce((sum, value) => sum + value, 0) / Math.max(1, canonical.length),
    raw: rawAgreement(table),
  };
}

function summarize(map: readonly (readonly number[])[]): AgreementMap {
  const mean = (values: readonly number[]): number =>
    values.reduce((a, b) => a + b, 0) / Math.max(1, values.length);
  const apart = (distance: number): number[] =>
    map.flatMap((row, i) => (i + distance < row.length ? [row[i + distance]] : []));
  const distances = map.slice(1).map((_, i) => apart(i + 1));
  return {
    map,
    adjacent: mean(distances[0] ?? []),
    all: mean(distances.flat()),
    byDistance: distances.map(mean),
  };
}

function stabilityByBatch(
  { batches }: RoutingTrace,
  [a, labelsA]: Labelled,
  [b, labelsB]: Labelled,
): number[] {
  return stretchesOf(batches).map(([start, end]) =>
    pairDisagreement(
      contingency(labelsA.subarray(start, end), labelsB.subarray(start, end), a.numExperts, b.numExperts),
    ),
  );
}
