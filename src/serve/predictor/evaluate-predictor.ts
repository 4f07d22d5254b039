/**
 * How well a predictor foretells a router.
 * @module
 */
import { PredictorError } from './errors.js';
import { requireFingerprint } from './fingerprint.js';
import type { LoadedPredictor } from './predictor-folder.js';
import { PredictorProgram, type LayerPrediction } from './predictor-program.js';
import type { RoutingRecording } from './recording.js';
import type { RuntimeOptions } from '../../runtime/index.js';

/** Agreement of guesses and decisions over some positions and layers. */
export interface HitRates {
  /** Positions that were compared in each layer. */
  readonly positions: number;
  /** Share of (position, layer) where the router's first choice is the first guess. */
  readonly top1: number;
  /** The same, where it is among the first three guesses. */
  readonly top3: number;
  /** Share of all choices of the router that are among as many guesses: of a top-1 router the same as `top1`. */
  readonly recall: number;
  /** Mean |α − gate| at the router's first choice, α being the predictor's softmax over all experts. */
  readonly alphaError: number;
  /** The same for the constant 1 / numExperts. */
  readonly constantAlphaError: number;
}

/** Result of {@link evaluatePredictor}. */
export interface PredictorEvaluation {
  /** Real tokens alone. */
  readonly real: HitRates;
  /** Padding as well; only where the recording has it. */
  readonly padded?: HitRates;
  /** Real tokens, one entry a layer. */
  readonly layers: readonly (HitRates & { readonly name: string })[];
  /** Distinct experts of a text, averaged over texts and layers, as the router chose and as the first guesses say. */
  readonly distinct: { readonly router: number; readonly predictor: number };
}

/** Settings of {@link evaluatePredictor}. */
export interface EvaluationOptions {
  /** Texts at once; default 16. */
  readonly batchSize?: number;
  /** Sequences that are read; all when absent. */
  readonly maxSequences?: number;
  readonly runtime?: RuntimeOptions;
}

/** Texts that are predicted together. */
const CHUNK = 256;

/**
 * Compares a predictor with a recording of the router. Where the recording has padding, the predictor reads it as well,
 * as in SiDA's released code, and both the rates with padding and those of the real tokens alone are told.
 *
 * @param embeddings the model's token embeddings `[vocabSize, embeddingSize]`, row after row.
 * @throws PredictorError if the recording is of another model or other layers.
 */
export async function evaluatePredictor(
  predictor: LoadedPredictor,
  recording: RoutingRecording,
  embeddings: Float32Array,
  { batchSize = 16, maxSequences = Infinity, runtime = {} }: EvaluationOptions = {},
): Promise<PredictorEvaluation> {
  requireFingerprint(predictor.source, predictor.trainedFor, recording.manifest.fingerprint);
  const { layers } = predictor.options;
  const names = (list: readonly { readonly name: string }[]): string =>
    list.map(({ name }) => name).join(', ');
  if (names(layers) !== names(recording.layers))
    throw new PredictorError(
      `${predictor.source} predicts layers ${names(layers)}, and ${recording.path} has ${names(recording.layers)}`,
    );
  const { contextLength, padding } = recording.manifest;
  const widest = Math.max(...layers.map(({ numExperts }) => numExperts));
  const program = new PredictorProgram(predictor, embeddings, {
    batchSize,
    topK: widest,
    contextLength,
    runtime,
  });
  const tallies = layers.map(() => ({ real: new Tally(), all: new Tally() }));
  const distinct = { router: 0, predictor: 0, texts: 0 };
  const count = Math.min(maxSequences, recording.sequences);
  try {
    for (let first = 0; first < count; first += CHUNK) {
      const sequences = Array.from({ length: Math.min(CHUNK, count - first) }, (_, i) => first + i);
      const predictions = await program.predict(sequences.map((sequence) => recording.tokensOf(sequence)));
      predictions.forEach((prediction, l) => {
        let start = 0;
        for (const sequence of sequences) {
          compare(recording, sequence, l, prediction, start, tallies[l], distinct);
          start += recording.lengthOf(sequence);
        }
      });
    }
  } finally {
    await program.release();
  }
  const joined = (kind: 'real' | 'all'): HitRates => Tally.rates(tallies.map((tally) => tally[kind]));
  return {
    real: joined('real'),
    ...(padding ? { padded: joined('all') } : {}),
    layers: tallies.map(({ real }, l) => ({ name: layers[l].name, ...Tally.rates([real]) })),
    distinct: { router: distinct.router / distinct.texts, predictor: distinct.predictor / distinct.texts },
  };
}

/** Sums over positions. */
class Tally {
  positions = 0;
  top1 = 0;
  top3 = 0;
  found = 0;
  chosen = 0;
  alphaError = 0;
  constantAlphaError = 0;

  static rates(tallies: readonly Tally[]): HitRates {
    const sum = (of: (tally: Tally) => number): number => tallies.reduce((all, tally) => all + of(tally), 0);
    const compared = sum((tally) => tally.positions);
    const share = (part: number, whole = compared): number => (whole === 0 ? 0 : part / whole);
    return {
      positions: compared / tallies.length,
      top1: share(sum((tally) => tally.top1)),
      top3: share(sum((tally) => tally.top3)),
      recall: share(
        sum((tally) => tally.found),
        sum((tally) => tally.chosen),
      ),
      alphaError: share(sum((tally) => tally.alphaError)),
      constantAlphaError: share(sum((tally) => tally.constantAlphaError)),
    };
  }
}

/** Compares one text in one layer. */
function compare(
  recording: RoutingRecording,
  sequence: number,
  layer: number,
  { experts: guesses, probabilities, topK: width }: LayerPrediction,
  start: number,
  { real, all }: { readonly real: Tally; readonly all: Tally },
  distinct: { router: number; predictor: number; texts: number },
): void {
  const { topK, numExperts } = recording.layers[layer];
  const { experts, gates } = recording.decisionsOf(sequence, layer);
  const byRouter = new Set<number>();
  const byPredictor = new Set<number>();
  for (let t = 0; t < recording.lengthOf(sequence); t++) {
    const own = guesses.subarray((start + t) * width, (start + t + 1) * width);
    const first = experts[t * topK];
    // No choice at all, as of a token that comes to no expert.
    if (first >= numExperts) continue;
    const rank = own.indexOf(first);
    const alpha = rank < 0 ? 0 : probabilities[(start + t) * width + rank];
    const gate = gates[t * topK];
    const isReal = t < recording.realOf(sequence);
    for (const tally of isReal ? [real, all] : [all]) {
      tally.positions++;
      tally.top1 += Number(rank === 0);
      tally.top3 += Number(rank >= 0 && rank < 3);
      tally.alphaError += Math.abs(alpha - gate);
      tally.constantAlphaError += Math.abs(1 / numExperts - gate);
      for (let k = 0; k < topK; k++) {
        const expert = experts[t * topK + k];
        if (expert >= numExperts) continue;
        tally.chosen++;
        const at = own.indexOf(expert);
        tally.found += Number(at >= 0 && at < topK);
        if (isReal) byRouter.add(expert);
      }
    }
    if (isReal) for (let k = 0; k < topK; k++) byPredictor.add(own[k]);
  }
  distinct.router += byRouter.size;
  distinct.predictor += byPredictor.size;
  distinct.texts++;
}
