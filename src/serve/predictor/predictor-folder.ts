/**
 * A predictor on disk: `config.json` and `model.safetensors`.
 * @module
 */
import { existsSync } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import {
  encodeJson,
  explain,
  openTensors,
  readFloats,
  replaceFile,
  saveSafetensors,
} from '../../checkpoints/index.js';
import { PredictorError } from './errors.js';
import { RoutingPredictor } from './network.js';
import { predictorSchema, type PredictorOptions } from './options.js';

const MODEL_TYPE = 'switchyard_routing_predictor';

const configSchema = z.strictObject({
  model_type: z.literal(MODEL_TYPE),
  ...predictorSchema.shape,
  /** {@link routingFingerprint} of the model whose routing it learnt. */
  trainedFor: z.string().regex(/^[0-9a-f]{64}$/, 'expected 64 hexadecimal digits'),
});

/** A predictor with its weights in memory. */
export interface LoadedPredictor {
  readonly options: PredictorOptions;
  /** {@link routingFingerprint} of the model whose routing it learnt. */
  readonly trainedFor: string;
  /** Every parameter by name. */
  readonly weights: ReadonlyMap<string, Float32Array>;
  /** Where it came from, for messages. */
  readonly source: string;
}

/** Writes a predictor; its weights appear whole or not at all. */
export async function savePredictor(
  folder: string,
  { options, trainedFor, weights }: Pick<LoadedPredictor, 'options' | 'trainedFor' | 'weights'>,
): Promise<void> {
  await mkdir(folder, { recursive: true });
  const config = { model_type: MODEL_TYPE, ...options, trainedFor };
  const text = `${encodeJson(config, 2)}\n`;
  await replaceFile(join(folder, 'config.json'), (handle) => handle.writeFile(text));
  const shapes = new RoutingPredictor(options).parameters();
  const tensors = [...shapes].map(([name, { shape }]) => ({
    name,
    dtype: 'F32' as const,
    shape,
    data: weights.get(name)!,
  }));
  await saveSafetensors(join(folder, 'model.safetensors'), tensors, { metadata: { format: 'pt' } });
}

/**
 * Opens a predictor.
 * @throws PredictorError or SafetensorsError naming the file that is missing, damaged or of something else.
 */
export async function loadPredictor(folder: string): Promise<LoadedPredictor> {
  const file = join(folder, 'config.json');
  if (!existsSync(file))
    throw new PredictorError(`${folder}: there is no predictor here (no config.json): train one first`);
  const { model_type: _type, trainedFor, ...options } = parseConfig(file, await readFile(file, 'utf8'));
  const source = await openTensors(folder);
  try {
    const weights = new Map<string, Float32Array>();
    const parameters = new RoutingPredictor(options).parameters();
    for (const [name, { shape }] of parameters) {
      const found = source.tensors.get(name);
      if (found?.shape.join() !== shape.join())
        throw new PredictorError(
          `${folder}: tensor ${name} should be [${shape.join(', ')}] and is ${found ? `[${found.shape.join(', ')}]` : 'missing'}`,
        );
    }
    for (const name of source.tensors.keys()) {
      if (!parameters.has(name)) throw new PredictorError(`${folder}: no predictor has a tensor ${name}`);
    }
    for (const name of parameters.keys()) weights.set(name, await readFloats(source, name));
    return { options, trainedFor, weights, source: folder };
  } finally {
    await source.close();
  }
}

function parseConfig(file: string, text: string): z.infer<typeof configSchema> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new PredictorError(`${file}: not JSON: ${explain(error)}`);
  }
  const parsed = configSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [{ path, message }] = parsed.error.issues;
  throw new PredictorError(`${file}: ${path.join('.') || 'the configuration'}: ${message}`);
}
