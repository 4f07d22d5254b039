/**
 * Options of routing predictors, as they stand in their `config.json`.
 * @module
 */
import { z } from 'zod';

const count = z.int().min(1);

/** A layer whose routing is predicted. */
export const predictedLayerSchema = z.strictObject({
  /** Name of the layer's routing record, such as `encoder.1`. */
  name: z.string().min(1),
  /** Index of the layer among all layers of the model. */
  layerIndex: z.int().min(0),
  numExperts: count,
  /** Experts that the model's router gives a token. */
  topK: count,
});

/** A layer whose routing is predicted. */
export type PredictedLayer = z.infer<typeof predictedLayerSchema>;

/** Options of a {@link RoutingPredictor}. */
export const predictorSchema = z.strictObject({
  /** Width of the model's token embeddings, which the predictor reads. */
  embeddingSize: count,
  /** SiDA's h. */
  hiddenSize: count.default(256),
  /** LSTM layers, one after the other. */
  recurrentLayers: count.default(2),
  /** `sparsemax`: SiDA's attention over the LSTM's states; `none` leaves it out (an ablation). */
  attention: z.enum(['sparsemax', 'none']).default('sparsemax'),
  /** Which SparseMax: that of the definition, or that of SiDA's released code. */
  sparsemax: z.enum(['paper', 'released']).default('paper'),
  /** Whether a token's prediction sees no later token, as decoder-only generation needs. */
  causal: z.boolean().default(false),
  layers: z.array(predictedLayerSchema).min(1),
});

/** Options of a {@link RoutingPredictor}. */
export type PredictorOptions = z.infer<typeof predictorSchema>;
