/**
 * How routing moves along a text, and how it changes between two looks at the same text.
 * @module
 */

/** Runs of equal labels in a row of tokens. */
export interface RunStatistics {
  /** Mean number of consecutive tokens with the same label. */
  readonly meanRunLength: number;
  /** Share of neighbouring tokens with different labels. */
  readonly switchingRate: number;
}

/**
 * Runs of a labelling, over all sequences.
 * @param labels `[tokens]`; a negative label ends a run and begins none
 * @param rows `[tokens]`: which sequence each token belongs to; runs end with their sequence
 */
export function runStatistics(labels: ArrayLike<number>, rows: ArrayLike<number>): RunStatistics {
  let runs = 0;
  let counted = 0;
  let neighbours = 0;
  let switches = 0;
  for (let i = 0; i < labels.length; i++) {
    if (labels[i] < 0) continue;
    counted++;
    const follows = i > 0 && rows[i] === rows[i - 1] && labels[i - 1] >= 0;
    if (follows) neighbours++;
    if (follows && labels[i] !== labels[i - 1]) switches++;
    if (!follows || labels[i] !== labels[i - 1]) runs++;
  }
  return {
    meanRunLength: runs === 0 ? 0 : counted / runs,
    switchingRate: neighbours === 0 ? 0 : switches / neighbours,
  };
}

/**
 * Share of tokens whose label differs between two looks; tokens without a label in both are left out.
 * @throws RangeError if the looks have different lengths.
 */
export function changedShare(before: ArrayLike<number>, after: ArrayLike<number>): number {
  if (before.length !== after.length)
    throw new RangeError(`two looks at the same tokens have ${before.length} and ${after.length} labels`);
  let changed = 0;
  let counted = 0;
  for (let i = 0; i < before.length; i++) {
    if (before[i] < 0 && after[i] < 0) continue;
    counted++;
    if (before[i] !== after[i]) changed++;
  }
  return counted === 0 ? 0 : changed / counted;
}

/** Running average of a series, `0.8 · old + 0.2 · new` from its first value on (adaptive clustering §12); 0 if empty. */
export function runningAverage(values: readonly number[]): number {
  return values.length === 0 ? 0 : values.reduce((average, value) => 0.8 * average + 0.2 * value);
}
