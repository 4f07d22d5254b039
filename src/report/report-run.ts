/**
 * Gathers what a report says about one run.
 * @module
 */
import { join } from 'node:path';
import { analyzeRouting, checkpointStability, trainingHistory } from '../analyze/index.js';
import type { BatchSequence } from '../data/index.js';
import { countSparseBlocks } from '../moe/index.js';
import { sizeOfModel, type LanguageModelOptions } from '../models/index.js';
import { loadLanguageModel, readMetrics } from '../train/index.js';
import type { RunReport } from './report-data.js';

/** Where {@link reportRun} gets its tokens, and how many. */
export interface ReportRunOptions {
  /** Name in the report. */
  readonly name: string;
  readonly description?: string | undefined;
  /** The validation set, anew at each call. */
  readonly validation: () => BatchSequence;
  /** Names of the languages that the set numbers. */
  readonly languages?: readonly string[];
  /** Tokens whose routing is analysed. */
  readonly maxTokens: number;
  readonly seed: number;
  /** Called with one line for everything that was passed over. */
  readonly onWarning?: (line: string) => void;
}

/** Tokens that are routed again at every checkpoint. */
const STABILITY_TOKENS = 4096;

/**
 * Reads a run folder, routes its validation set and measures all that figures show.
 * @throws ModelFolderError, CheckpointError, RunFolderError, each with one clear line.
 */
export async function reportRun(folder: string, options: ReportRunOptions): Promise<RunReport> {
  const { name, description, validation, languages, maxTokens, seed } = options;
  const loaded = await loadLanguageModel(folder);
  loaded.warnings.forEach((line) => options.onWarning?.(line));
  const { model } = loaded;
  const { parameters, activeParameters } = sizeOfModel(model);
  const history = trainingHistory(readMetrics(join(folder, 'metrics.jsonl')));
  const sequence = validation();
  const routing = await analyzeRouting(loaded, {
    sequence,
    maxTokens,
    seed,
    ...(languages ? { languages } : {}),
  });
  const { batchSize, contextLength } = sequence;
  const stability = routing
    ? await checkpointStability(
        folder,
        model,
        validation,
        { batchSize, contextLength },
        Math.min(maxTokens, STABILITY_TOKENS),
      )
    : undefined;
  return {
    name,
    folder,
    description: description ?? null,
    parameters,
    activeParameters,
    numLayers: model.options.numLayers,
    architecture: architectureOf(model.options),
    history,
    routing: routing ?? null,
    stability: stability ?? null,
  };
}

/** `4 blocks, 2 sparse: 8 experts, top 1, softmax` */
function architectureOf({ numLayers, sparse }: LanguageModelOptions): string {
  const blocks = `${numLayers} ${numLayers === 1 ? 'block' : 'blocks'}`;
  if (!sparse) return `${blocks}, dense`;
  const count = countSparseBlocks(sparse, numLayers);
  const what =
    sparse.kind === 'experts'
      ? `${sparse.numExperts} experts, top ${sparse.topK}, ${sparse.router.kind}`
      : sparse.kind;
  return `${blocks}, ${count} sparse: ${what}`;
}
