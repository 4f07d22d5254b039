/**
 * Between rows of tokens and the columns of their experts.
 * @module
 */
import type { GroupedChoices } from './grouped-choices.js';

/** Features that are moved at a time: as many as lie in a cache line, so that each line is fetched once. */
const BLOCK = 16;

/**
 * Copies every token's row to the columns that its experts read.
 * @param rows `[tokens, width]`
 * @param columns `[width, tokens of the expert]`, one expert after another
 */
export function gatherColumns(
  rows: Float32Array,
  { starts, choices }: GroupedChoices,
  topK: number,
  width: number,
  columns: Float32Array,
): void {
  for (let expert = 0; expert + 1 < starts.length; expert++) {
    const [start, count] = [starts[expert], starts[expert + 1] - starts[expert]];
    for (let block = 0; block < width; block += BLOCK) {
      const end = Math.min(block + BLOCK, width);
      for (let column = 0; column < count; column++) {
        const from = Math.floor(choices[start + column] / topK) * width;
        const to = start * width + column;
        for (let i = block; i < end; i++) columns[to + i * count] = rows[from + i];
      }
    }
  }
}

/**
 * `Σ_k gates[t, k] · outputs of choice k` for every token t, added in the order of its choices, every step rounded to single
 * precision as in a program; zeros for tokens without a choice.
 * @param outputs `[width, tokens of the expert]`, one expert after another
 * @param into `[tokens, width]`
 */
export function combineColumns(
  outputs: Float32Array,
  { starts, rows, places }: GroupedChoices,
  gates: Float32Array,
  topK: number,
  width: number,
  into: Float32Array,
): void {
  into.fill(0);
  for (let block = 0; block < width; block += BLOCK) {
    const end = Math.min(block + BLOCK, width);
    for (let choice = 0, begun = -1; choice < rows.length; choice++) {
      const row = rows[choice];
      if (row < 0) continue;
      const start = starts[places[choice]];
      const count = starts[places[choice] + 1] - start;
      const [gate, from] = [gates[choice], start * width + (row - start)];
      const to = Math.floor(choice / topK) * width;
      // The first is taken as it is: 0 + (−0) would be another number than −0.
      const isFirst = begun !== to;
      begun = to;
      for (let i = block; i < end; i++) {
        const term = Math.fround(gate * outputs[from + i * count]);
        into[to + i] = isFirst ? term : into[to + i] + term;
      }
    }
  }
}
