/**
 * Chooses the tokens of one text by all options of its request.
 * @module
 */
import { penalizeRepetition, sample } from '../../decode/index.js';
import { RandomStream, streamKey } from '../../nn/index.js';
import type { CheckedRequest } from './check-request.js';

/** Remembers what a text has, and draws what comes next. */
export class TokenChooser {
  private readonly random: RandomStream;
  private readonly said: Set<number>;
  private readonly counts = new Map<number, number>();
  private readonly bias: readonly (readonly [number, number])[];

  /**
   * @param index of the text in its request: the first draws as if alone
   * @param before ids that it continues
   */
  constructor(
    private readonly request: CheckedRequest,
    index: number,
    before: Iterable<number>,
  ) {
    this.random = new RandomStream(streamKey(request.seed, 'generate', ...(index === 0 ? [] : [index])));
    this.said = new Set(before);
    this.bias = Object.entries(request.logitBias).map(([id, value]) => [Number(id), value]);
  }

  /**
   * Draws a token: scores are changed by the repetition penalty, presence and frequency penalties and the bias, in this
   * order, before `sample` takes them.
   * @param scores of all tokens that may be drawn; they stay as they are
   * @throws RangeError if a score is not a number, or the highest is infinite.
   */
  choose(scores: Float32Array): number {
    const { repetitionPenalty, presencePenalty, frequencyPenalty } = this.request;
    const penalised = presencePenalty !== 0 || frequencyPenalty !== 0;
    let changed = scores;
    if (repetitionPenalty !== 1 || penalised || this.bias.length > 0) {
      changed = scores.slice();
      penalizeRepetition(changed, this.said, repetitionPenalty);
      if (penalised)
        for (const [id, count] of this.counts) changed[id] -= presencePenalty + frequencyPenalty * count;
      for (const [id, value] of this.bias) changed[id] += value;
    }
    const id = sample(changed, this.request, this.random.uniform());
    this.said.add(id);
    this.counts.set(id, (this.counts.get(id) ?? 0) + 1);
    return id;
  }
}
