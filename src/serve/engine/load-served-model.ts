/**
 * Opens a model folder for serving without ever having all of its experts in memory.
 * @module
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import {
  factorised,
  ModelFolderError,
  openCheckpoint,
  readParameters,
  type Checkpoint,
  type ConfigChange,
} from '../../checkpoints/index.js';
import type { Tokenizer } from '../../data/index.js';
import { Programs, type Passes } from '../../decode/index.js';
import { createModel, type Model } from '../../models/index.js';
import { nameParameters } from '../../nn/index.js';
import type { RuntimeOptions } from '../../runtime/index.js';
import { openTokenizer, type ExpertForm } from '../../train/index.js';
import { QuantisedExperts } from '../quantised/quantised-experts.js';
import { openRoundedExperts } from '../quantised/stored-experts.js';
import {
  expertBanks,
  openColdExperts,
  openExpertStore,
  planMemory,
  readRoutedSteps,
  type ColdExperts,
  type ColdTraits,
  type ExpertStoreOptions,
  type MemoryPlan,
  type PagedExpertStore,
} from '../store/index.js';
import { expertParameters, openSplitModel, type SplitModelOptions } from './split-model.js';

/** What others may look at before they look into passes. */
export interface OpenedStore {
  readonly model: Model;
  readonly store: PagedExpertStore;
  /** Every parameter that is not of a single expert, by name. */
  readonly weights: ReadonlyMap<string, Float32Array>;
}

/** Settings of {@link loadServedModel}. */
export interface LoadServedModelOptions extends Pick<
  ExpertStoreOptions,
  'policy' | 'trace' | 'keyValueBytes' | 'scratchBytes' | 'readsAtOnce' | 'warmUp'
> {
  /** Bytes for everything; all experts are held when absent. */
  readonly memoryBudget?: number | undefined;
  /** A file of recorded routing to be the trace: what `switchyard inspect --routing … --json` prints, a text a line. */
  readonly routingTrace?: string | undefined;
  /** Changes the options of the model before they are checked. */
  readonly change?: ConfigChange | undefined;
  /** How the experts of a compressed folder are computed; `rebuilt` when absent. */
  readonly experts?: ExpertForm | undefined;
  /**
   * Takes experts of so many bits: those that `import --pack --weights` wrote, or the floats, rounded as they arrive. They are
   * computed in single precision when absent.
   */
  readonly expertBits?: 4 | 8 | undefined;
  /**
   * Rounds the other matrices that every token multiplies with to so many bits, routers excepted. Each of a model's passes has its
   * own copy of them, which no budget counts.
   */
  readonly denseBits?: 4 | 8 | undefined;
  readonly runtime?: RuntimeOptions | undefined;
  /** Looks into passes, reads ahead or decides in place of the routers, over the store that has been opened. */
  readonly hooks?: ((opened: OpenedStore) => Omit<SplitModelOptions, 'runtime'>) | undefined;
}

/** A model that is ready to be served. */
export interface ServedModel {
  readonly model: Model;
  readonly passes: Passes;
  /** Absent where the model has no experts. */
  readonly store: PagedExpertStore | undefined;
  /** What is where. */
  readonly plan: MemoryPlan;
  /** Absent where the folder has none. */
  readonly tokenizer: Tokenizer | undefined;
  /** The model folder, also where a run was named. */
  readonly folder: string;
  /** Frees sessions, memory and files. */
  close(): Promise<void>;
}

/**
 * Opens a model folder, or a run whose training is finished. Weights that every token needs are read; experts are read
 * when they are chosen, into as many places as the budget allows.
 *
 * @example
 * const served = await loadServedModel('OLMoE-1B-7B', { memoryBudget: parseBytes('8GB') });
 * const generator = await Generator.create(served.model, served.passes);
 * @throws ModelFolderError or SafetensorsError if it is no model, or is damaged.
 * @throws MemoryBudgetError if the budget does not hold the least.
 */
export async function loadServedModel(
  path: string,
  options: LoadServedModelOptions = {},
): Promise<ServedModel> {
  const isRun = existsSync(join(path, 'recipe.json'));
  const folder = isRun ? join(path, 'model') : path;
  if (isRun && !existsSync(join(folder, 'model.safetensors')))
    throw new ModelFolderError(`${path}: the run has no finished model yet; training writes it at its end`);
  const checkpoint = await openCheckpoint(folder, options.change);
  try {
    return await openServed(
      folder,
      options.experts === 'factorised' ? factorised(checkpoint) : checkpoint,
      options,
    );
  } catch (error) {
    await checkpoint.close();
    throw error;
  }
}

async function openServed(
  folder: string,
  checkpoint: Checkpoint,
  {
    memoryBudget: budget,
    routingTrace,
    expertBits,
    denseBits,
    runtime,
    hooks,
    ...memory
  }: LoadServedModelOptions,
): Promise<ServedModel> {
  const model = createModel(checkpoint.options);
  const parameters = nameParameters(model);
  const tokenizer = openTokenizer(checkpoint.tokenizerFile, model);
  const layers = expertBanks(checkpoint.options, true);
  const own = expertParameters({ layers });
  const weights = new Map(
    [...parameters].flatMap(([name, { size }]) => (own.has(name) ? [] : [[name, new Float32Array(size)]])),
  );
  const residentBytes = [...weights.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
  const needs = { ...memory, residentBytes };
  if (layers.length === 0) {
    const plan = planMemory({ ...needs, numExperts: 0, slotBytes: 0, cold: nothing }, budget);
    await readParameters(checkpoint, weights);
    await checkpoint.close();
    const passes = new Programs(weights, runtime);
    const close = (): Promise<void> => passes.release();
    return { model, passes, store: undefined, plan, tokenizer, folder, close };
  }
  const numExperts = layers.map((layer) => layer.numExperts);
  const recorded =
    routingTrace === undefined ? {} : { trace: await readRoutedSteps(routingTrace, numExperts) };
  await readParameters(checkpoint, weights);
  const cold = await coldTier(folder, checkpoint, model, expertBits, runtime);
  const { store, plan } = await openExpertStore(cold, { ...needs, ...recorded, budget });
  try {
    const seen = hooks?.({ model, store, weights });
    const dense = denseBits && ({ bits: denseBits, mode: 'symmetric' } as const);
    const passes = await openSplitModel(model, weights, store, { runtime, dense, ...seen });
    const close = async (): Promise<void> => {
      await passes.release();
      await store.close();
    };
    return { model, passes, store, plan, tokenizer, folder, close };
  } catch (error) {
    await store.close();
    throw error;
  }
}

/** Where there are no experts to read. */
const nothing: ColdTraits = { description: 'no experts', pageCache: 'used', residentBytes: 0 };

async function coldTier(
  folder: string,
  checkpoint: Checkpoint,
  model: Model,
  bits: LoadServedModelOptions['expertBits'],
  runtime: RuntimeOptions | undefined,
): Promise<ColdExperts> {
  const floats = await openColdExperts(checkpoint, expertBanks(checkpoint.options, true));
  if (!bits) return floats;
  const rounded = await openRoundedExperts(folder, floats, { bits, mode: 'symmetric' });
  return new QuantisedExperts(rounded, model, runtime);
}
