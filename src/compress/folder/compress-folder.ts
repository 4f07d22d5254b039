/**
 * Compresses a checkpoint into a folder of the compressed format: layer by layer, so that it can be killed and goes on;
 * the folder appears whole or not at all.
 * @module
 */
import { existsSync } from 'node:fs';
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import {
  COMPRESSED_VERSION,
  compressedSize,
  createFolder,
  encodeJson,
  EXPERT,
  openTensors,
  originalSize,
  packLayer,
  saveTensors,
  StoredExperts,
  storedDTypes,
  systemCode,
  type CompressionHeader,
  type JsonObject,
  type PlannedTensor,
  type TensorInfo,
  type TensorSource,
} from '../../checkpoints/index.js';
import { spectrumOf } from '../spectrum.js';
import type { CompressionJob, CompressionListener, FolderOutcome, LayerOutcome, Size } from './job.js';
import { NUMBERS_FILE, type CompressionNumbers } from './numbers.js';
import { CompressionError, CompressionState, isFilled, writeSmall, type FinishedLayer } from './state.js';

/** What belongs to a checkpoint beside its weights: tokenizer, generation settings, chat template, licence. */
const companions = /\.(json|txt|model|jinja|md)$|^(LICENSE|NOTICE|USE_POLICY)/;

/** Weights, or what speaks of weights that will be stored differently. */
const notCopied = /\.index\.json$|^config\.json$/;

/**
 * Compresses a checkpoint. Layers that an earlier run of the same job finished are taken over; the result has the same
 * bytes either way.
 *
 * @throws CompressionError saying what to do: the output is there, another job is under way, the disk is full.
 */
export async function compressFolder(
  job: CompressionJob,
  listener: CompressionListener = {},
): Promise<FolderOutcome> {
  if (job.layers.length === 0) throw new CompressionError(`${job.folder}: no layer to compress`);
  const isThere = await isFilled(job.out);
  const statePath = CompressionState.pathOf(job.out);
  if (isThere && !(await isFilled(statePath)))
    throw new CompressionError(`${job.out}: is there already; name a folder that does not exist yet`);
  const state = await CompressionState.open(job).catch((error: unknown) => {
    throw advised(error, statePath);
  });
  try {
    const finished: FinishedLayer[] = [];
    for (const index of job.layers.keys()) finished.push(await finishLayer(job, index, state, listener));
    // The last run was killed between the output and its tidying up.
    if (!isThere) await writeFolder(job, finished, listener);
    const outcome = await measure(job, finished);
    await state.remove();
    return outcome;
  } catch (error) {
    // Nothing to go on from: nothing is left.
    if (!(await state.holdsLayers())) await state.remove();
    throw advised(error, state.path);
  } finally {
    state.release();
  }
}

async function finishLayer(
  job: CompressionJob,
  index: number,
  state: CompressionState,
  listener: CompressionListener,
): Promise<FinishedLayer> {
  const kept = await state.find(index);
  listener.onLayer?.(index, kept !== undefined);
  if (!kept) {
    const layerJob = job.layers[index];
    const { layout } = layerJob;
    const { dtype } = await StoredExperts.open(job.source, layout);
    let spectrum: readonly number[] | undefined;
    const { layer, report } = await job.method.compress(await layerJob.open(), {
      budget: job.budget,
      seed: job.seed,
      onProgress: (step) => listener.onStep?.(index, step),
      onRedundancy: (redundancy) => listener.onRedundancy?.(index, redundancy),
      onResidual: (expert, residual) => {
        if (expert === 0) spectrum = spectrumOf(residual);
      },
    });
    const bytesPerValue = storedDTypes[dtype].bits / 8;
    const outcome: LayerOutcome = {
      name: layer.name,
      report,
      ...(spectrum ? { spectrum } : {}),
      before: originalSize(layer, bytesPerValue),
      after: compressedSize(layer, bytesPerValue),
    };
    await state.keep(index, packLayer(layer, dtype, layout.tensors), outcome);
  }
  const finished = kept ?? (await state.find(index));
  if (!finished) throw new CompressionError(`${state.path}: layer ${index} cannot be read back`);
  listener.onOutcome?.(index, finished.outcome);
  return finished;
}

async function writeFolder(
  { folder, out, source, config, layers, about, maxShardBytes }: CompressionJob,
  finished: readonly FinishedLayer[],
  listener: CompressionListener,
): Promise<void> {
  const compression: CompressionHeader = {
    version: COMPRESSED_VERSION,
    ...about,
    layers: finished.map(({ header }) => header),
  };
  const opened: TensorSource[] = [];
  try {
    for (const { file } of finished) opened.push(await openTensors(file));
    const replaced = new Set(layers.flatMap(({ layout }) => originalNames(layout)));
    const kept = [...source.tensors.values()].filter(({ name }) => !replaced.has(name));
    const planned = [
      planTensors(source, kept),
      ...opened.map((part) => planTensors(part, part.tensors.values())),
    ];
    await createFolder(out, async (path) => {
      const newConfig = { ...config, compression } as unknown as JsonObject;
      await writeSmall(join(path, 'config.json'), `${encodeJson(newConfig, 2)}\n`);
      const numbers: CompressionNumbers = {
        version: 1,
        ...about,
        layers: finished.map(({ outcome }) => outcome),
      };
      await writeSmall(join(path, NUMBERS_FILE), `${encodeJson(numbers, 2)}\n`);
      for (const name of await readdir(folder)) {
        const from = join(folder, name);
        if (!companions.test(name) || notCopied.test(name) || !(await stat(from)).isFile()) continue;
        await writeSmall(join(path, name), await readFile(from));
      }
      await saveTensors(path, planned.flat(), {
        ...(maxShardBytes === undefined ? {} : { maxShardBytes }),
        onProgress: (progress) => listener.onSave?.(progress),
      });
    });
  } finally {
    await Promise.all(opened.map((part) => part.close()));
  }
}

function planTensors(source: TensorSource, infos: Iterable<TensorInfo>): PlannedTensor[] {
  return [...infos].map(({ name, dtype, shape }) => ({ name, dtype, shape, data: () => source.read(name) }));
}

/** Names of all tensors that a layer's experts lie in. */
function originalNames({ tensors, numExperts }: CompressionJob['layers'][number]['layout']): string[] {
  return tensors.flatMap(({ name }) =>
    name.includes(EXPERT)
      ? Array.from({ length: numExperts }, (_, expert) => name.replaceAll(EXPERT, String(expert)))
      : [name],
  );
}

async function measure(
  { folder, out, source }: CompressionJob,
  finished: readonly FinishedLayer[],
): Promise<FolderOutcome> {
  const layers = finished.map(({ outcome }) => outcome);
  const difference = (key: keyof Size): number =>
    layers.reduce((total, { before, after }) => total + after[key] - before[key], 0);
  const parameters = [...source.tensors.values()].reduce((total, info) => total + elements(info), 0);
  const tensorBytes = [...source.tensors.values()].reduce(
    (total, info) => total + (elements(info) * storedDTypes[info.dtype].bits) / 8,
    0,
  );
  return {
    layers,
    before: { parameters, bytes: await weightBytes(folder) },
    after: { parameters: parameters + difference('parameters'), bytes: await weightBytes(out) },
    predictedBytes: tensorBytes + difference('bytes'),
  };
}

function elements({ shape }: TensorInfo): number {
  return shape.reduce((product, size) => product * size, 1);
}

/** Bytes of a folder's weights on disk. */
export async function weightBytes(folder: string): Promise<number> {
  let total = 0;
  for (const name of await readdir(folder)) {
    if (name.endsWith('.safetensors')) total += (await stat(join(folder, name))).size;
  }
  return total;
}

/** What a full disk needs to be told. */
function advised(error: unknown, statePath: string): unknown {
  for (let at = error; at instanceof Error; at = at.cause) {
    const code = systemCode(at);
    if (code === 'ENOSPC' || code === 'EDQUOT')
      return new CompressionError(
        `${(error as Error).message}; make room and run the same command again` +
          (existsSync(statePath) ? `: it goes on from the finished layers in ${statePath}` : ''),
        { cause: error },
      );
  }
  return error;
}
