/** Property tests draw from this seed, so that a failure on one machine is a failure on all. */
export const SEED = 20210111;

/** Cases of a property test: `count`, or twenty times as many with SWITCHYARD_LONG=1. */
export function randomCases(count: number): { seed: number; numRuns: number } {
  return { seed: SEED, numRuns: process.env['SWITCHYARD_LONG'] === '1' ? 20 * count : count };
}
