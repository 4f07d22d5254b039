/**
 * Fair comparisons: a grid of recipes and seeds, sizes that match, records that make runs unnecessary to repeat, and
 * tables with spread.
 * @module
 */
export {
  compare,
  runSettings,
  runStates,
  type CompareListener,
  type CompareOptions,
  type Comparison,
  type RunState,
} from './compare.js';
export {
  GridError,
  gridSchema,
  loadGrid,
  matchMeasures,
  parseGrid,
  type Grid,
  type MatchMeasure,
} from './grid.js';
export { closestSize, percent, type MatchReport } from './match.js';
export {
  planGrid,
  selectRuns,
  trainedEvaluation,
  type Plan,
  type PlannedRun,
  type PlannedVariant,
  type PlanOptions,
  type RunSelection,
} from './plan.js';
export { type RunRecord } from './record.js';
export { formatSpread, pairedDifference, spread, type Spread } from './statistics.js';
export { comparisonTable, type ComparisonRow } from './table.js';
