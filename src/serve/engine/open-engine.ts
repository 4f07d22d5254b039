/**
 * An engine over a folder.
 * @module
 */
import { existsSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { readStopTokens } from '../../checkpoints/index.js';
import { ChatTemplate, textStart } from '../../data/index.js';
import { Programs } from '../../decode/index.js';
import { loadTextModel } from '../../train/index.js';
import type { EngineSource } from './engine-source.js';
import { Engine, type EngineLimits } from './engine.js';
import { servedParts } from './served-parts.js';

/**
 * Opens a run or model folder and compiles what short requests need.
 * @throws ModelFolderError and others of `loadTextModel`.
 */
export async function openEngine(
  { path, name = basename(resolve(path)), threads }: EngineSource,
  limits: Partial<EngineLimits> = {},
): Promise<Engine> {
  const { model, tokenizer, weights } = await loadTextModel(path);
  const isRun = existsSync(join(path, 'recipe.json'));
  const folder = isRun ? join(path, 'model') : path;
  const parts = await servedParts({
    name,
    model,
    tokenizer,
    passes: new Programs(weights, threads === undefined ? {} : { threads }),
    chatTemplate: ChatTemplate.openIfAny(folder),
    // Runs were trained without.
    start: isRun || model.options.kind !== 'languageModel' ? [] : textStart(folder, tokenizer),
    stopTokens: readStopTokens(folder),
  });
  return new Engine(parts, limits);
}
