import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  openCheckpoint,
  saveSafetensors,
  type Checkpoint,
  type NamedTensor,
} from '../../src/checkpoints/index.js';
import {
  createMethod,
  layerJobs,
  methodSchema,
  type CompressionJob,
  type CompressionMethod,
} from '../../src/compress/index.js';
import { ByteTokenizer } from '../../src/data/index.js';
import { createWeights, saveModelConfig, saveModelWeights } from '../../src/train/index.js';
import { namedTensors } from '../../src/train/model-folder.js';
import { tinyModel } from './tiny-training.js';

/** A model folder of two sparse layers whose experts are related: 4 experts of 32 neurons, or as told. */
export async function relatedExperts(
  path: string,
  options: Readonly<Record<string, unknown>> = {},
  change: (weights: Map<string, Float32Array>) => void = () => {},
): Promise<string> {
  const model = tinyModel({ sparse: { numExperts: 4, topK: 2 }, ...options });
  const parameters = model.parameters();
  const weights = new Map(createWeights(parameters, [], 5).all);
  for (const [name, data] of weights) {
    // Larger than they start, so that logits say something.
    data.forEach((value, i) => (data[i] = 3 * value + (name.endsWith('Bias') ? 0.1 * Math.sin(i) : 0)));
    const [numExperts] = parameters.get(name)!.shape;
    if (!/experts\.(gate|up|down)$/.test(name)) continue;
    const size = data.length / numExperts;
    for (let i = size; i < data.length; i++) data[i] = data[i % size] + 0.3 * data[i];
  }
  change(weights);
  const shapes = new Map([...parameters].map(([name, { shape }]) => [name, shape]));
  await saveModelConfig(path, model.options, new ByteTokenizer());
  await saveModelWeights(path, namedTensors(shapes, weights));
  await writeFile(join(path, 'LICENSE'), 'words\n');
  return path;
}

/** Writes tensors with a configuration. */
export async function writeFolder(
  path: string,
  config: object,
  tensors: readonly NamedTensor[],
): Promise<void> {
  await mkdir(path, { recursive: true });
  await writeFile(join(path, 'config.json'), JSON.stringify(config));
  await saveSafetensors(join(path, 'model.safetensors'), tensors);
}

/** The job of compressing a folder; `use` gets it while the checkpoint is open. */
export async function withJob<Result>(
  folder: string,
  out: string,
  use: (job: CompressionJob, checkpoint: Checkpoint) => Promise<Result>,
  {
    ratio = 0.25,
    options = {},
    method,
    layers,
  }: {
    readonly ratio?: number;
    readonly options?: object;
    readonly method?: CompressionMethod;
    readonly layers?: string;
  } = {},
): Promise<Result> {
  const checkpoint = await openCheckpoint(folder);
  try {
    const parsed = methodSchema.parse({ kind: 'resmoe', ...options });
    const job: CompressionJob = {
      folder,
      out,
      source: checkpoint.source,
      config: checkpoint.config,
      layers: layerJobs(checkpoint, layers),
      method: method ?? createMethod(parsed),
      about: { method: parsed.kind, options: { perExpert: ratio } },
      budget: { perExpert: ratio },
      seed: 0,
    };
    return await use(job, checkpoint);
  } finally {
    await checkpoint.close();
  }
}
