/**
 * A predictor for the model that it was trained for.
 * @module
 */
import { openCheckpoint } from '../../checkpoints/index.js';
import { createModel, type ModelOptions } from '../../models/index.js';
import { embeddingName, requireFingerprint, routingFingerprint } from './fingerprint.js';
import { loadPredictor, type LoadedPredictor } from './predictor-folder.js';

/** A predictor with the embeddings that it reads. */
export interface OpenedPredictor {
  readonly predictor: LoadedPredictor;
  /** The model's token embeddings, of which the predictor has its own copy. */
  readonly embeddings: Float32Array;
  readonly options: ModelOptions;
}

/**
 * Opens a predictor for a model folder, of which embeddings and routers alone are read.
 * @throws PredictorError if it was trained for another model.
 */
export async function openPredictorFor(
  predictorFolder: string,
  modelFolder: string,
): Promise<OpenedPredictor> {
  const predictor = await loadPredictor(predictorFolder);
  const checkpoint = await openCheckpoint(modelFolder);
  try {
    const { options } = checkpoint;
    let embeddings: Float32Array | undefined;
    const found = await routingFingerprint(createModel(options), async (name) => {
      const data = await checkpoint.readParameter(name);
      if (name === embeddingName) embeddings = data;
      return data;
    });
    requireFingerprint(predictorFolder, predictor.trainedFor, found);
    embeddings ??= await checkpoint.readParameter(embeddingName);
    return { predictor, embeddings, options };
  } finally {
    await checkpoint.close();
  }
}
