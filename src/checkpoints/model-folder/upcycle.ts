/**
 * Makes a dense model sparse: every expert starts as a copy of the feed-forward layer that stood there (sparse
 * upcycling, Komatsuzaki et al., arXiv 2212.05055).
 * @module
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { activations } from '../../moe/index.js';
import { createModel, type ModelOptions } from '../../models/index.js';
import { normal, startParameter, streamKey, type Parameter } from '../../nn/index.js';
import { createSynced } from '../atomic-file.js';
import { createFolder } from '../atomic-folder.js';
import { ModelFolderError } from '../hugging-face/errors.js';
import { parseOptions } from '../hugging-face/options.js';
import { encodeJson, type JsonObject } from '../json.js';
import type { PlannedTensor } from '../safetensors/index.js';
import { systemCode } from '../system-error.js';
import { saveTensors, type SaveTensorsOptions } from '../tensors/index.js';
import { openCheckpoint, type Checkpoint } from './checkpoint.js';
import { ownModelType } from './own-architectures.js';
import { checkAliases } from './read-parameters.js';
import { transposeMatrix } from './transpose.js';

/** What goes along with a model's weights unchanged. */
const companions = [
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'chat_template.jinja',
];

/** How a model becomes sparse. */
export interface UpcycleOptions extends Pick<SaveTensorsOptions, 'maxShardBytes' | 'onProgress'> {
  /** The `sparse` section of the new model, as in a recipe; the width of its experts is that of the dense layers. */
  readonly sparse: JsonObject;
  /** Of the routers and the noise. */
  readonly seed?: number;
  /**
   * σ of normal noise on every expert's matrices, as a share of the root mean square of the matrix; none by default.
   * Equal experts part only by the tokens that they see.
   */
  readonly noise?: number;
}

/**
 * Writes a model folder of ours with the weights of a dense one, of any layout that {@link openCheckpoint} reads: each
 * expert a copy of its block's feed-forward layer, routers as they start, everything else as it was. With gates that sum
 * to 1 and no noise the new model computes what the old one did.
 *
 * Tensors are copied one by one; the folder appears whole or not at all, and the same call makes the same bytes.
 *
 * @returns options of the new model.
 * @throws ModelFolderError if the model is sparse already, or its feed-forward layers cannot be experts.
 * @throws FolderError if the folder is there already or cannot be written.
 */
export async function upcycle(from: string, to: string, settings: UpcycleOptions): Promise<ModelOptions> {
  const checkpoint = await openCheckpoint(from);
  try {
    const options = upcycledOptions(checkpoint, settings);
    await checkAliases(checkpoint);
    await createFolder(to, async (folder) => {
      const config = { model_type: ownModelType(options.kind), ...options } as unknown as JsonObject;
      await createSynced(join(folder, 'config.json'), (handle) =>
        handle.writeFile(`${encodeJson(config, 2)}\n`),
      );
      await copyCompanions(from, folder);
      const { maxShardBytes, onProgress } = settings;
      await saveTensors(folder, plan(checkpoint, options, settings), {
        ...(maxShardBytes === undefined ? {} : { maxShardBytes }),
        ...(onProgress ? { onProgress } : {}),
      });
    });
    return options;
  } finally {
    await checkpoint.close();
  }
}

/** Options of the model to be, which must have room for the old feed-forward layers as experts. */
function upcycledOptions({ options, location }: Checkpoint, settings: UpcycleOptions): ModelOptions {
  if (options.sparse !== null)
    throw new ModelFolderError(`${location}: the model has sparse layers already; upcycle a dense one`);
  const { dropout, bias, activation } = options;
  const hasBias = ('feedForwardBias' in options ? options.feedForwardBias : undefined) ?? bias;
  const expertDropout = ('activationDropout' in options ? options.activationDropout : undefined) ?? dropout;
  if (hasBias && activations[activation].gated)
    throw new ModelFolderError(
      `${location}: experts have no bias on their gate, as its feed-forward layers do`,
    );
  const refuse = (what: string): never => {
    throw new ModelFolderError(`${location}: ${what}, so that experts cannot be copies of the dense layers`);
  };
  const { kind = 'experts', experts: given, ...rest } = settings.sparse;
  if (kind !== 'experts') return refuse(`sparse layers of kind ${JSON.stringify(kind)} have no such experts`);
  const experts = { kind: 'feedForward', bias: hasBias, expertDropout, ...(given as JsonObject | undefined) };
  const result = parseOptions({ ...options, sparse: { kind, experts, ...rest } }, `${location}, upcycled`);
  const { sparse } = result;
  if (sparse?.kind !== 'experts') throw new TypeError('parsed sparse layers of another kind');
  if ((sparse.intermediateSize ?? options.intermediateSize) !== options.intermediateSize)
    return refuse(`intermediateSize ${sparse.intermediateSize} is not the dense ${options.intermediateSize}`);
  if ((sparse.experts.activation ?? activation) !== activation)
    return refuse(`activation ${sparse.experts.activation} is not the dense ${activation}`);
  if (sparse.sharedIntermediateSize !== null)
    return refuse('a shared expert would be added to what they say');
  return result;
}

/** Every tensor of the new model. */
function plan(checkpoint: Checkpoint, options: ModelOptions, settings: UpcycleOptions): PlannedTensor[] {
  const dense = createModel(checkpoint.options).parameters();
  return [...createModel(options).parameters()].map(([name, parameter]) => ({
    name,
    dtype: 'F32',
    shape: parameter.shape,
    data: () => {
      if (dense.has(name)) return checkpoint.readParameter(name);
      const [, layer, role] = /^(.*\.feedForward)\.experts\.(gate|up|down|upBias|downBias)$/.exec(name) ?? [];
      if (layer !== undefined) return expertsFrom(checkpoint, layer, role, name, parameter, settings);
      const start = new Float32Array(parameter.size);
      startParameter(parameter, settings.seed ?? 1, name, start);
      return start;
    },
  }));
}

/** A bank of which every expert is the dense layer. */
async function expertsFrom(
  checkpoint: Checkpoint,
  layer: string,
  role: string,
  name: string,
  { shape, size }: Parameter,
  { noise = 0, seed = 1 }: UpcycleOptions,
): Promise<Float32Array> {
  const [numExperts, inSize, outSize] = shape;
  const isBias = role.endsWith('Bias');
  const stored = await checkpoint.readParameter(
    isBias ? `${layer}.${role.replace('Bias', '')}.bias` : `${layer}.${role}.weight`,
  );
  const one = isBias ? stored : transposeMatrix(stored, outSize, inSize);
  const bank = new Float32Array(size);
  const scale = noise * Math.sqrt(one.reduce((sum, value) => sum + value * value, 0) / one.length);
  const drawn = new Float32Array(one.length);
  for (let expert = 0; expert < numExperts; expert++) {
    const copy = bank.subarray(expert * one.length, (expert + 1) * one.length);
    copy.set(one);
    if (noise === 0 || isBias) continue;
    normal(scale)(streamKey(seed, 'upcycle', name, expert), drawn);
    for (let i = 0; i < copy.length; i++) copy[i] += drawn[i];
  }
  return bank;
}

async function copyCompanions(from: string, to: string): Promise<void> {
  for (const file of companions) {
    let content: Buffer;
    try {
      content = await readFile(join(from, file));
    } catch (error) {
      if (systemCode(error) === 'ENOENT') continue;
      throw error;
    }
    await createSynced(join(to, file), (handle) => handle.writeFile(content));
  }
}
