/**
 * What routers and experts do.
 * @module
 */
export { capacityDemand, type CapacityDemand, type MeanCapacity } from './capacity-demand.js';
export { checkpointStability, type CheckpointStability } from './checkpoint-stability.js';
export { classMaps, type ClassMaps } from './class-maps.js';
export {
  corruptText,
  matchTokens,
  type CorruptedText,
  type CorruptionKind,
  type Edit,
  type MatchedToken,
} from './corruption.js';
export {
  layerAgreement,
  type AgreementMap,
  type AgreementStatistic,
  type LayerAgreement,
} from './layer-agreement.js';
export { layerProfile, type LayerProfile } from './layer-profile.js';
export { routingRobustness, type RobustnessOptions, type RobustnessReport } from './robustness.js';
export { compareLogits, logitsOfText, type LogitDifference, type TextLogits } from './logit-difference.js';
export { analyzeRouting, type RoutingAnalysis, type RoutingAnalysisOptions } from './routing.js';
export {
  batchesOfRows,
  firstChoices,
  RoutingTracer,
  type LayerTrace,
  type RoutingTrace,
  type TracedBatches,
  type TracedLayer,
} from './routing-trace.js';
export { SpecializationTable } from './specialization.js';
export { characterClassOf, scriptOf } from './token-classes.js';
export {
  compareTensors,
  storedTensors,
  type CheckpointDifference,
  type ComparedTensors,
  type TensorDifference,
} from './tensor-difference.js';
export { displayToken, tokenTexts, type TokenText } from './token-text.js';
export { trainingHistory, type TrainingHistory } from './training-history.js';
