/**
 * An engine over a folder.
 * @module
 */
import { existsSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { ModelFolderError, readStopTokens } from '../../checkpoints/index.js';
import { ChatTemplate, textStart } from '../../data/index.js';
import type { ModelInfo } from '../engine-client.js';
import type { EngineStats } from '../engine-stats.js';
import type { TablesAhead } from '../predictor/index.js';
import type { ExpertStoreStats } from '../store/index.js';
import type { EngineSource, ServingMode } from './engine-source.js';
import { defaultLimits, type EngineLimits } from './engine-limits.js';
import { Engine } from './engine.js';
import { loadServedModel, type ServedModel } from './load-served-model.js';
import { servedParts, type ServedParts } from './served-parts.js';
import { ServingHooks } from './serving-hooks.js';

/** Share of a budget for keys and values, where nobody says how much they may take. */
const CACHE_SHARE = 1 / 8;

/**
 * Opens a run or model folder and compiles what short requests need.
 * @throws ModelFolderError and others of {@link loadServedModel}; MemoryBudgetError if the budget does not hold the least.
 */
export async function openEngine(source: EngineSource, limits: Partial<EngineLimits> = {}): Promise<Engine> {
  const { path, name = basename(resolve(path)), memoryBudget, threads, policy = 'lfu' } = source;
  const cacheBytes = limits.cacheBytes ?? cacheBytesOf(memoryBudget);
  const mode = source.mode ?? (memoryBudget === undefined ? 'none' : 'prefetch');
  const isRun = existsSync(join(path, 'recipe.json'));
  const hooks = await ServingHooks.open({ ...source, mode }, isRun ? join(path, 'model') : path);
  try {
    const served = await loadServedModel(path, {
      ...{ memoryBudget, keyValueBytes: cacheBytes, policy, routingTrace: source.routingTrace },
      ...{ experts: source.experts, expertBits: source.expertBits },
      runtime: threads === undefined ? undefined : { threads },
      hooks: ({ model, store }) => hooks.over(model, store),
    });
    const close = async (): Promise<void> => {
      await served.close();
      await hooks.close();
    };
    try {
      const parts = await prepare(served, { ...source, name, mode, policy }, isRun, hooks.tables, close);
      return new Engine(parts, { ...limits, cacheBytes });
    } catch (error) {
      await served.close();
      throw error;
    }
  } catch (error) {
    await hooks.close();
    throw error;
  }
}

async function prepare(
  { model, tokenizer, passes, folder, store, plan }: ServedModel,
  source: EngineSource & { readonly name: string; readonly mode: ServingMode },
  isRun: boolean,
  tables: TablesAhead | undefined,
  close: () => Promise<void>,
): Promise<ServedParts> {
  if (!tokenizer)
    throw new ModelFolderError(`${folder}: there is no tokenizer.json, without which texts are no tokens`);
  return servedParts({
    ...{ name: source.name, model, tokenizer, passes, close },
    chatTemplate: ChatTemplate.openIfAny(folder),
    // Runs were trained without.
    start: isRun || model.options.kind !== 'languageModel' ? [] : textStart(folder, tokenizer),
    stopTokens: readStopTokens(folder),
    placement: plan.placement,
    settings: settingsOf(source, store && plan.reads),
    listener: tables,
    guesses: source.mode === 'sida' ? source.guesses : undefined,
    storeStats: () => (store ? { ...numbersOf(store.stats), ...tables?.stats } : {}),
    storeExperts: () => store?.experts,
  });
}

function cacheBytesOf(memoryBudget: number | undefined): number {
  if (memoryBudget === undefined) return defaultLimits.cacheBytes;
  return Math.min(defaultLimits.cacheBytes, Math.floor(memoryBudget * CACHE_SHARE));
}

/** @param reads how experts are read, where the model has any */
function settingsOf(
  { memoryBudget, threads, predictor, guesses, expertBits, mode, policy }: EngineSource,
  reads: string | undefined,
): ModelInfo['settings'] {
  const settings = {
    ...(reads !== undefined && { mode, policy, reads }),
    ...{ memoryBudget, predictor, guesses, expertBits, threads },
  };
  const given = Object.entries(settings).filter(([, value]) => value !== undefined);
  return Object.fromEntries(given) as ModelInfo['settings'];
}

/** Counters that are numbers. */
function numbersOf(stats: ExpertStoreStats): EngineStats['store'] {
  const entries = Object.entries(stats) as [string, unknown][];
  return Object.fromEntries(
    entries.filter(
      (entry): entry is [string, number] => typeof entry[1] === 'number' && Number.isFinite(entry[1]),
    ),
  );
}
