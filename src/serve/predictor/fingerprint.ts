/**
 * Which model a predictor belongs to.
 * @module
 */
import { createHash } from 'node:crypto';
import type { Model } from '../../models/index.js';
import { PredictorError } from './errors.js';

/** The token embeddings of every kind of model. */
export const embeddingName = 'embedding.weight';

/** Gives a parameter of a model by its name. */
export type ParameterSource = (name: string) => Float32Array | Promise<Float32Array>;

/**
 * SHA-256 over what decides routing and is not computed by experts: token embeddings and routers, with names and shapes.
 * A copy of the model whose experts are compressed keeps it, and so keeps its predictors.
 */
export async function routingFingerprint(model: Model, read: ParameterSource): Promise<string> {
  const hash = createHash('sha256');
  for (const [name, { shape }] of model.parameters()) {
    if (name !== embeddingName && !name.includes('.router.')) continue;
    const data = await read(name);
    hash.update(`${name} ${shape.join('x')}\n`);
    hash.update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  }
  return hash.digest('hex');
}

/** {@link ParameterSource} of weights in memory. */
export function fromWeights(weights: ReadonlyMap<string, Float32Array>): (name: string) => Float32Array {
  return (name) => {
    const data = weights.get(name);
    if (data) return data;
    throw new PredictorError(`the model has no parameter ${name}`);
  };
}

/** Refuses what was made for another model. */
export function requireFingerprint(what: string, madeFor: string, model: string): void {
  if (madeFor === model) return;
  throw new PredictorError(
    `${what} was made for another model (routing fingerprint ${madeFor.slice(0, 12)}…, this model's is ${model.slice(0, 12)}…): make one for this model`,
  );
}
