/**
 * What a compression method is: from the experts of one layer to the same experts stored small.
 * @module
 */
import type { CompressedDType, CompressedLayer, DesignShape } from '../checkpoints/index.js';
import type { Budget } from './budget.js';
import type { LayerCalibration } from './calibration.js';
import type { DesignMatrix } from './matrix-compressor.js';
import type { Redundancy } from './redundancy.js';

/** The experts of one layer as a method reads them: one at a time, because all together may not fit in memory. */
export interface LayerExperts extends DesignShape {
  /** Of the layer's block, such as `blocks.3` or `encoder.blocks.1`. */
  readonly name: string;
  readonly numExperts: number;
  /**
   * The design matrix of one expert, `[intermediateSize, width]`. The caller may overwrite it.
   * @param into where to write it; a new array when absent.
   */
  readDesign(expert: number, into?: Float32Array): Promise<Float32Array>;
  /** Biases of the experts' outputs, `[hiddenSize]` per expert, where there are any: kept as they are. */
  readonly outputBiases?: readonly Float32Array[];
  /**
   * Element type in which the numbers will be stored; float32 when absent. What is left beside a centre is taken from the
   * centre as it will be stored, so that its rounding is not lost.
   */
  readonly dtype?: CompressedDType;
  /** Weights of the router, `[numExperts, hiddenSize]`, where it has a row for each expert. */
  readonly router?: Float32Array;
  /** What the layer did on some text: present when the method asked for it. */
  readonly calibration?: LayerCalibration;
}

/** Where a method has arrived within a layer. */
export interface MethodStep {
  /** In a few words, such as `aligning experts, iteration 3`. */
  readonly stage: string;
  readonly done: number;
  readonly total: number;
}

/** Settings and listeners of one compression. */
export interface CompressionContext {
  readonly budget: Budget;
  /** Of everything random: the same seed, the same result. Default 0. */
  readonly seed?: number;
  readonly onProgress?: (step: MethodStep) => void;
  /** Called by methods with a centre for each expert, with what is left of it, before that is cut; it may not be changed. */
  readonly onResidual?: (expert: number, residual: DesignMatrix) => void;
  /** Called by methods with a centre, once the experts are aligned and before anything is cut. */
  readonly onRedundancy?: (redundancy: Redundancy) => void;
}

/** How well a layer's experts survived. Squares are sums over all elements of a design matrix. */
export interface LayerReport {
  /** ε = (1/N) Σ ‖D̂ − T D‖²: mean over the experts, against the neurons in the order in which they are stored. */
  readonly error: number;
  /** (1/N) Σ ‖D‖²: what {@link error} is a part of. */
  readonly energy: number;
  /** Only of methods with a centre. */
  readonly redundancy?: Redundancy;
  /** Objective (1/N) Σ ‖T D − centre‖² after each iteration; never rises. */
  readonly objective?: readonly number[];
  /** Only where a matrix was factorised: by how much the error may exceed that of the best factors, as a part of it. */
  readonly truncationExcess?: number;
}

/** A layer stored small, and the report about it. */
export interface LayerCompression {
  readonly layer: CompressedLayer;
  readonly report: LayerReport;
}

/** One way to make experts smaller. */
export interface CompressionMethod {
  /** Whether the layer must have run on some text before: then {@link LayerExperts.calibration} is required. */
  readonly needsCalibration: boolean;
  /**
   * Compresses one layer within the budget.
   * @throws RangeError if the budget leaves nothing to store, naming the least that would.
   */
  compress(layer: LayerExperts, context: CompressionContext): Promise<LayerCompression>;
}
