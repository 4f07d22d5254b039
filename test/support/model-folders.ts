/**
 * Small model folders with random weights.
 * @module
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { encodeFloats, ownModelType, saveSafetensors } from '../../src/checkpoints/index.js';
import { createModel, type ModelOptions } from '../../src/models/index.js';
import { fillNormal, streamKey } from '../../src/nn/index.js';

/** Writes a folder of ours; every parameter is drawn from N(0, 1). */
export async function writeModelFolder(
  path: string,
  options: ModelOptions,
  dtype: 'F32' | 'BF16' | 'F16' = 'F32',
): Promise<void> {
  await mkdir(path, { recursive: true });
  const config = { model_type: ownModelType(options.kind), ...options };
  await writeFile(join(path, 'config.json'), JSON.stringify(config));
  const tensors = [...createModel(options).parameters()].map(([name, { shape, size }]) => {
    const data = new Float32Array(size);
    fillNormal(streamKey(name), data);
    return { name, dtype, shape, data: encodeFloats(dtype, data) };
  });
  await saveSafetensors(join(path, 'model.safetensors'), tensors);
}
