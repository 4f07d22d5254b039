/**
 * Predictors that have learnt nothing, for models that tests save.
 * @module
 */
import { openCheckpoint } from '../../src/checkpoints/index.js';
import { createModel } from '../../src/models/index.js';
import { nameParameters, ParameterArena } from '../../src/nn/index.js';
import {
  predictorSchema,
  routingFingerprint,
  RoutingPredictor,
  savePredictor,
  type PredictorOptions,
} from '../../src/serve/index.js';
import { predictableLayers } from '../../src/serve/predictor/routing-recorder.js';

/** Saves a predictor for a saved model, with weights from a seed. */
export async function savePredictorFor(
  modelFolder: string,
  folder: string,
  change: Partial<PredictorOptions> = {},
): Promise<PredictorOptions> {
  const checkpoint = await openCheckpoint(modelFolder);
  try {
    const model = createModel(checkpoint.options);
    const trainedFor = await routingFingerprint(model, (name) => checkpoint.readParameter(name));
    nameParameters(model);
    const options = predictorSchema.parse({
      embeddingSize: checkpoint.options.hiddenSize,
      hiddenSize: 8,
      layers: predictableLayers(model).map(({ name, layerIndex, numExperts, topK }) => {
        return { name, layerIndex, numExperts, topK };
      }),
      ...change,
    });
    const parameters = nameParameters(new RoutingPredictor(options));
    const weights = ParameterArena.allocate(parameters).initialize(parameters, 1).views;
    await savePredictor(folder, { options, trainedFor, weights });
    return options;
  } finally {
    await checkpoint.close();
  }
}
