/**
 * The numbers of a report: what `report.json` holds and every figure is drawn from.
 * @module
 */
import type { CheckpointStability, RoutingAnalysis, TrainingHistory } from '../analyze/index.js';

/** One run of a report. Sections that a run cannot fill are null. */
export interface RunReport {
  /** Unique within the report. */
  readonly name: string;
  readonly folder: string;
  readonly description: string | null;
  readonly parameters: number;
  readonly activeParameters: number;
  readonly numLayers: number;
  /** What its blocks are, in a few words. */
  readonly architecture: string;
  readonly history: TrainingHistory;
  /** Null for models that keep no routing records. */
  readonly routing: RoutingAnalysis | null;
  /** Null where fewer than two checkpoints are left. */
  readonly stability: CheckpointStability | null;
}

/** All of `report.json`. Keys stay; new ones may be added. */
export interface Report {
  readonly version: 1;
  /** What the routing was measured on. */
  readonly data: string;
  readonly runs: readonly RunReport[];
}
