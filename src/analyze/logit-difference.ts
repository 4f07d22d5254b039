/**
 * What two models say about the same text.
 * @module
 */
import { input, type Tensor } from '../graph/index.js';
import { LanguageModel, type EncoderDecoder } from '../models/index.js';
import { evaluationContext } from '../nn/index.js';
import { compile, type RuntimeOptions } from '../runtime/index.js';

/** Tokens that a model reads at a time: more would only make the logits of one pass larger. */
const LONGEST_WINDOW = 256;

/** Logits of a text, `[positions, vocabSize]` row by row. */
export interface TextLogits {
  readonly positions: number;
  readonly vocabSize: number;
  readonly logits: Float32Array;
}

/** How far the logits of a second model are from those of a first. */
export interface LogitDifference {
  /** Positions that were compared. */
  readonly positions: number;
  /** Largest |a − b| of a logit. */
  readonly maxAbsolute: number;
  /** Mean of KL(first ‖ second) over the positions, nats. */
  readonly divergence: number;
  /** Share of the positions at which both hold the same token to be most likely. */
  readonly agreement: number;
}

/**
 * What a model says after each token of a text, in windows of one length; a rest that fills none is left out. An
 * encoder–decoder reads each window as a source and as the target that follows its start token.
 *
 * @param weights every parameter by name.
 * @throws RangeError if the text is empty.
 */
export async function logitsOfText(
  model: LanguageModel | EncoderDecoder,
  weights: Iterable<readonly [string, Float32Array]>,
  ids: ArrayLike<number>,
  runtime: RuntimeOptions = {},
): Promise<TextLogits> {
  const { vocabSize } = model.options;
  const longest = model instanceof LanguageModel ? model.windowLength : longestPair(model);
  const startToken = model instanceof LanguageModel ? 0 : startOf(model);
  const time = Math.min(ids.length, longest, LONGEST_WINDOW);
  if (time === 0) throw new RangeError('the text has no tokens');
  const windows = Math.floor(ids.length / time);
  const program = await compile({ logits: trace(model, time) }, runtime);
  try {
    program.bindKnown(weights);
    const logits = new Float32Array(windows * time * vocabSize);
    for (let window = 0; window < windows; window++) {
      const tokens = Int32Array.from({ length: time }, (_, i) => ids[window * time + i]);
      const target = Int32Array.from({ length: time }, (_, i) => (i === 0 ? startToken : tokens[i - 1]));
      program.bindKnown(Object.entries({ tokens, target }));
      const results = await program.run();
      logits.set(results['logits'] as Float32Array, window * time * vocabSize);
    }
    return { positions: windows * time, vocabSize, logits };
  } finally {
    await program.release();
  }
}

/** Tokens that fit as a source and as a target. */
function longestPair({ options: { contextLength, targetLength = contextLength } }: EncoderDecoder): number {
  return Math.min(contextLength, targetLength);
}

function startOf({ options }: EncoderDecoder): number {
  return options.decoderStartTokenId ?? options.padTokenId ?? 0;
}

function trace(model: LanguageModel | EncoderDecoder, time: number): Tensor {
  const tokens = input('tokens', 'int32', [1, time]);
  if (model instanceof LanguageModel) return model.forward({ tokens }, evaluationContext()).logits;
  const target = input('target', 'int32', [1, time]);
  return model.forward({ source: tokens, target }, evaluationContext()).logits;
}

/**
 * Compares what two models say.
 * @throws RangeError if they did not read the same text, or have other vocabularies.
 */
export function compareLogits(first: TextLogits, second: TextLogits): LogitDifference {
  const { positions, vocabSize } = first;
  if (positions !== second.positions || vocabSize !== second.vocabSize)
    throw new RangeError(
      `logits of [${positions}, ${vocabSize}] and [${second.positions}, ${second.vocabSize}] cannot be compared`,
    );
  let [maxAbsolute, divergence, agreed] = [0, 0, 0];
  for (let row = 0; row < positions; row++) {
    const a = first.logits.subarray(row * vocabSize, (row + 1) * vocabSize);
    const b = second.logits.subarray(row * vocabSize, (row + 1) * vocabSize);
    const [normalA, normalB] = [logSumExp(a), logSumExp(b)];
    let [bestA, bestB] = [0, 0];
    for (let i = 0; i < vocabSize; i++) {
      maxAbsolute = Math.max(maxAbsolute, Math.abs(a[i] - b[i]));
      if (a[i] > a[bestA]) bestA = i;
      if (b[i] > b[bestB]) bestB = i;
      const log = a[i] - normalA;
      divergence += Math.exp(log) * (log - (b[i] - normalB));
    }
    agreed += Number(bestA === bestB);
  }
  return {
    positions,
    maxAbsolute,
    // What rounding leaves of nothing may be below it.
    divergence: Math.max(0, divergence / positions),
    agreement: agreed / positions,
  };
}

function logSumExp(row: Float32Array): number {
  let peak = -Infinity;
  for (const value of row) peak = Math.max(peak, value);
  let total = 0;
  for (const value of row) total += Math.exp(value - peak);
  return peak + Math.log(total);
}
