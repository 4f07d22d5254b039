/**
 * Measures: pure functions of numbers.
 * @module
 */
export { maximumAssignment } from './assignment.js';
export { AssignmentSolver, type Assignment, type CostArrays } from './assignment-solver.js';
export { canonicalCorrelations } from './canonical-correlation.js';
export { classificationScores, exceeds, type ClassificationScores, type Estimate } from './classification.js';
export {
  contingency,
  cramersV,
  indicatorCorrelation,
  matchedAgreement,
  normalizedMutualInformation,
  pairDisagreement,
  rawAgreement,
  type Contingency,
} from './contingency.js';
export {
  decisiveness,
  effectiveExperts,
  entropy,
  histogram,
  type Decisiveness,
  type Histogram,
} from './decisiveness.js';
export { loadStatistics, type LoadStatistics } from './expert-load.js';
export { bitsPerByte, perplexity } from './language-modelling.js';
export { requestedCapacity } from './requested-capacity.js';
export { coOccurrence, loadDeviation, selectionMass } from './selection.js';
export { symmetricEigen, type SymmetricEigen } from './symmetric-eigen.js';
export { changedShare, runningAverage, runStatistics, type RunStatistics } from './temporal.js';
