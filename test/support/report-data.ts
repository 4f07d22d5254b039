/**
 * A report of made-up runs: every figure has something to show, and every number comes from a seed.
 * @module
 */
import {
  capacityDemand,
  classMaps,
  layerAgreement,
  layerProfile,
  trainingHistory,
  type LayerTrace,
  type RoutingAnalysis,
} from '../../src/analyze/index.js';
import { RandomStream, streamKey } from '../../src/nn/index.js';
import type { Report, RunReport } from '../../src/report/index.js';
import { layerOf, traceOf } from './routing-trace.js';

const TOKENS = 600;
const TEXTS = ['a', 'δ', 'ж', '7', ' ', '.'];

/** A layer whose choice follows the token's class as often as `follow` says. */
function layer(
  name: string,
  numExperts: number,
  topK: number,
  follow: number,
  skip = 0,
  unseen = 0,
): LayerTrace {
  const random = new RandomStream(streamKey(7, name, follow, skip));
  const probabilities: number[][] = [];
  const choices = Array.from({ length: TOKENS }, (_, t) => {
    const scores = Array.from({ length: numExperts }, () => random.uniform() ** 3);
    if (random.uniform() < follow) scores[((t * 5) % TEXTS.length) % numExperts] += 1.5;
    scores.fill(0, 0, unseen);
    const total = scores.reduce((a, b) => a + b, 0);
    probabilities.push(scores.map((score) => score / total));
    const order = scores.map((_score, e) => e).sort((a, b) => scores[b] - scores[a]);
    return random.uniform() < skip ? new Array<number>(topK).fill(-1) : order.slice(0, topK);
  });
  return layerOf(name, numExperts, choices, probabilities, unseen);
}

function analysisOf(layers: readonly LayerTrace[]): RoutingAnalysis {
  const trace = {
    ...traceOf(layers, 50),
    languages: Int32Array.from({ length: TOKENS }, (_, t) => Math.floor(t / 50) % 3),
  };
  const texts = Array.from({ length: TOKENS }, (_, t) => TEXTS[(t * 5) % TEXTS.length]);
  const languages = ['en', 'el', 'ru'];
  const random = new RandomStream(streamKey(7, 'robustness'));
  return {
    tokens: TOKENS,
    profiles: layers.map((one) => layerProfile(one, trace)),
    agreement: layerAgreement(trace),
    classes: classMaps(trace, texts, languages),
    capacity: capacityDemand(
      trace,
      texts,
      Array.from(trace.languages, (language) => languages[language]),
    ),
    robustness: (['wordSwap', 'characterSwap'] as const).map((kind) => ({
      kind,
      rate: 0.025,
      edits: 12,
      tokens: 500,
      tokensAfterEdit: 200,
      layers: layers.map(({ name }) => {
        const changed = 0.2 * random.uniform();
        return {
          layer: name,
          changed: 0.4 * changed,
          changedAfterEdit: changed,
          overlapAfterEdit: 1 - changed,
        };
      }),
    })),
  };
}

function runOf(name: string, layers: readonly LayerTrace[]): RunReport {
  const random = new RandomStream(streamKey(7, name));
  const records = Array.from({ length: 40 }, (_, i) => [
    {
      step: i + 1,
      taskLoss: 2 + 3 / (i + 2) + 0.1 * random.uniform(),
      ...(layers.length === 0
        ? {}
        : {
            routing: layers.map(({ name: of, numExperts }) => ({
              layer: of,
              load: Array.from({ length: numExperts }, () => 10 + random.integer(40)),
            })),
          }),
    },
    ...(i % 10 === 9 ? [{ step: i + 1, validation: { loss: 2.1 + 3 / (i + 2), bitsPerByte: 3 } }] : []),
  ]).flat();
  return {
    name,
    folder: `runs/${name}`,
    description: null,
    parameters: 4_494_464,
    activeParameters: 824_448,
    numLayers: 4,
    architecture: layers.length === 0 ? '4 blocks, dense' : '4 blocks, 3 sparse: made up',
    history: trainingHistory(records, 20),
    routing: layers.length === 0 ? null : analysisOf(layers),
    stability:
      layers.length === 0
        ? null
        : {
            steps: [10, 20, 30, 40],
            tokens: TOKENS,
            layers: layers.map(({ name: of }) => ({
              layer: of,
              changed: [0.6, 0.3, 0.1].map((share) => share * (0.8 + 0.4 * random.uniform())),
            })),
          },
  };
}

/** Three runs: top-1 with three layers, top-2 with a stratified layer, and a dense one. */
export function madeUpReport(): Report {
  return {
    version: 1,
    data: 'made-up tokens',
    runs: [
      runOf('switch', [layer('1', 4, 1, 0.8), layer('3', 4, 1, 0.7), layer('5', 4, 1, 0.2)]),
      runOf('strata', [layer('1', 6, 2, 0.4), layer('3.0', 8, 2, 0.5), layer('3.1', 8, 2, 0.5, 0.6, 4)]),
      runOf('dense', []),
    ],
  };
}
