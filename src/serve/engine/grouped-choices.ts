/**
 * Choices sorted by expert, so that each expert's rows lie together.
 * @module
 */

/** The choices of one decision, by expert. */
export interface GroupedChoices {
  /** Distinct experts, ascending. */
  readonly experts: readonly number[];
  /** Where the rows of each of them begin, and at the end how many rows there are. */
  readonly starts: readonly number[];
  /** Index of the choice behind every row; within an expert ascending. */
  readonly choices: Int32Array;
  /** Row of every choice; −1 for none. */
  readonly rows: Int32Array;
  /** Where the expert of every choice stands among the distinct ones; −1 for none. */
  readonly places: Int32Array;
}

/**
 * Sorts choices by expert; equal ones keep their order.
 * @param experts −1 is no choice
 * @throws RangeError if there is no such expert.
 */
export function groupChoices(experts: Int32Array, numExperts: number): GroupedChoices {
  const ends = new Int32Array(numExperts + 1);
  for (const expert of experts) {
    if (expert < -1 || expert >= numExperts)
      throw new RangeError(`there is no expert ${expert}: choose 0 … ${numExperts - 1}, or −1 for none`);
    if (expert >= 0) ends[expert + 1]++;
  }
  for (let expert = 0; expert < numExperts; expert++) ends[expert + 1] += ends[expert];
  const total = ends[numExperts];
  const distinct: number[] = [];
  const starts: number[] = [];
  const placeOf = new Int32Array(numExperts);
  for (let expert = 0; expert < numExperts; expert++) {
    if (ends[expert] === ends[expert + 1]) continue;
    placeOf[expert] = distinct.length;
    distinct.push(expert);
    starts.push(ends[expert]);
  }
  const choices = new Int32Array(total);
  const [rows, places] = [new Int32Array(experts.length).fill(-1), new Int32Array(experts.length).fill(-1)];
  const next = ends;
  experts.forEach((expert, choice) => {
    if (expert < 0) return;
    const row = next[expert]++;
    choices[row] = choice;
    rows[choice] = row;
    places[choice] = placeOf[expert];
  });
  return { experts: distinct, starts: [...starts, total], choices, rows, places };
}
