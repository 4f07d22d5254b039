/**
 * An engine over a folder.
 * @module
 */
import { existsSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { ModelFolderError, readStopTokens } from '../../checkpoints/index.js';
import { ChatTemplate, textStart } from '../../data/index.js';
import type { ModelInfo, Placement } from '../engine-client.js';
import type { EngineStats } from '../engine-stats.js';
import type { ExpertStoreStats } from '../store/index.js';
import type { EngineSource } from './engine-source.js';
import { defaultLimits, Engine, type EngineLimits } from './engine.js';
import { loadServedModel, type ServedModel } from './load-served-model.js';
import { servedParts } from './served-parts.js';

/** Share of a budget for keys and values, where nobody says how much they may take. */
const CACHE_SHARE = 1 / 8;

/**
 * Opens a run or model folder and compiles what short requests need.
 * @throws ModelFolderError and others of {@link loadServedModel}; RangeError if the budget does not hold the least.
 */
export async function openEngine(source: EngineSource, limits: Partial<EngineLimits> = {}): Promise<Engine> {
  const { path, name = basename(resolve(path)), memoryBudget, threads, policy = 'lru' } = source;
  const cacheBytes = limits.cacheBytes ?? cacheBytesOf(memoryBudget);
  const mode = source.mode ?? (memoryBudget === undefined ? 'none' : 'prefetch');
  const served = await loadServedModel(path, {
    memoryBudget: memoryBudget === undefined ? undefined : Math.max(0, memoryBudget - cacheBytes),
    policy,
    experts: source.experts,
    expertBits: source.expertBits,
    runtime: threads === undefined ? undefined : { threads },
    hooks: ({ store }) => (mode === 'prefetch' ? { prefetcher: new LookAheadPrefetch(store) } : {}),
  });
  const { model, tokenizer, passes, folder, store } = served;
  if (!tokenizer)
    throw new ModelFolderError(`${path}: there is no tokenizer.json, without which texts are no tokens`);
  const isRun = existsSync(join(path, 'recipe.json'));
  const parts = await servedParts({
    ...{ name, model, tokenizer, passes },
    chatTemplate: ChatTemplate.openIfAny(folder),
    // Runs were trained without.
    start: isRun || model.options.kind !== 'languageModel' ? [] : textStart(folder, tokenizer),
    stopTokens: readStopTokens(folder),
    placement: placementOf(served, cacheBytes),
    settings: settingsOf(source, { mode, policy }, store?.stats),
    storeStats: () => (store ? numbersOf(store.stats) : {}),
    close: () => served.close(),
  });
  return new Engine(parts, { ...limits, cacheBytes });
}

function cacheBytesOf(memoryBudget: number | undefined): number {
  if (memoryBudget === undefined) return defaultLimits.cacheBytes;
  return Math.min(defaultLimits.cacheBytes, Math.floor(memoryBudget * CACHE_SHARE));
}

function placementOf({ store, residentBytes }: ServedModel, cacheBytes: number): readonly Placement[] {
  return [
    { what: 'weights outside of experts', where: 'memory', bytes: residentBytes },
    { what: 'keys and values, at most', where: 'memory', bytes: cacheBytes },
    ...(store ? expertPlaces(store) : []),
  ];
}

function expertPlaces({ layers, stats }: NonNullable<ServedModel['store']>): Placement[] {
  const experts = layers.reduce((sum, { numExperts }) => sum + numExperts, 0);
  const largest = Math.max(...layers.map(({ expertBytes }) => expertBytes));
  const slots = Math.min(stats.slots, experts);
  return [
    { what: `places for ${slots} of ${experts} experts`, where: 'memory', bytes: slots * largest },
    { what: `${experts - slots} experts at a time`, where: 'disk', bytes: (experts - slots) * largest },
  ].filter(({ bytes }) => bytes > 0);
}

function settingsOf(
  { memoryBudget, threads, predictor, expertBits }: EngineSource,
  { mode, policy }: { readonly mode: string; readonly policy: string },
  stats: ExpertStoreStats | undefined,
): ModelInfo['settings'] {
  return {
    ...(stats && { mode, policy, pageCache: stats.pageCache }),
    ...(memoryBudget !== undefined && { memoryBudget }),
    ...(predictor !== undefined && { predictor }),
    ...(expertBits !== undefined && { expertBits }),
    ...(threads !== undefined && { threads }),
  };
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
