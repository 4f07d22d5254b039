/**
 * What a family of checkpoints says about itself: how its configuration describes a model, and which of its tensors is
 * which of our parameters.
 * @module
 */
import type { ModelOptions } from '../../models/index.js';
import type { JsonObject } from '../json.js';
import type { ConfigReader } from './config-reader.js';

/**
 * A matrix or vector inside a stored tensor, and the parameter, or slice of one, that it is. Every part is read alone:
 * an expert of a fused tensor takes the memory of one expert.
 */
export interface TensorPart {
  /** Dotted name of the parameter. */
  readonly parameter: string;
  /** Index on the parameter's first axis, such as the expert of a bank; the whole parameter when absent. */
  readonly at?: number;
  /** Index on the first axis of the stored tensor, such as the expert of a fused one; all of it when absent. */
  readonly from?: number;
  /** Rows `[begin, end)` of what {@link from} selects; all of them when absent. */
  readonly rows?: readonly [begin: number, end: number];
  /** Whether the stored matrix is the transpose of the parameter's. */
  readonly transpose?: boolean;
}

/** One stored tensor and what is in it. Its parts together are all of it. */
export interface TensorMapping {
  readonly tensor: string;
  readonly shape: readonly number[];
  readonly parts: readonly TensorPart[];
  /** Other names under which some checkpoints hold the same numbers, beside this one or instead of it. */
  readonly aliases?: readonly string[];
}

/** How the experts of a layer are stored: each by itself, or all in one tensor `[numExperts, …]`. */
export type ExpertLayout = 'perExpert' | 'fused';

/** What an {@link Architecture} may need to know to name its tensors. */
export interface TensorChoice {
  readonly layout: ExpertLayout;
  /** Names in the checkpoint that is read; empty for one that is to be written. */
  readonly present: ReadonlySet<string>;
}

/** One `model_type`: Hugging Face's, or one of our own. */
export interface Architecture {
  /** `model_type` in `config.json`. */
  readonly modelType: string;
  /** Name of the class in `architectures`; absent in our own. */
  readonly className?: string;
  /**
   * Options of the model that a configuration describes. Every key is read, known to change nothing, or refused.
   * @throws ModelFolderError naming the key.
   */
  readConfig(config: ConfigReader): ModelOptions;
  /**
   * Configuration of a model, without `model_type`, `architectures` and the element type, which are added. Options that
   * it has no keys for are found by reading it back.
   * @throws UnfitModelError if the architecture has no such models.
   */
  writeConfig(options: ModelOptions): JsonObject;
  /**
   * Every tensor of the model, in the order of its parameters.
   * @throws UnfitModelError naming a parameter that the architecture has no tensor for.
   */
  tensors(options: ModelOptions, choice: TensorChoice): readonly TensorMapping[];
  /** Whether a tensor is no part of the model, such as a table that follows from the configuration. */
  ignores?(tensor: string, options: ModelOptions, present: ReadonlySet<string>): boolean;
}
