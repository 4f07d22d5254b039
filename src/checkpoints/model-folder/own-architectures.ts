/**
 * Our own model folders: `config.json` holds the options as a recipe does, and tensors have the names of parameters.
 * @module
 */
import { createModel, type ModelOptions } from '../../models/index.js';
import type { Architecture } from '../hugging-face/architecture.js';
import { parseOptions } from '../hugging-face/options.js';

const prefix = 'switchyard_';

/** `model_type` of a kind of model: `languageModel` is a `switchyard_language_model`. */
export function ownModelType(kind: ModelOptions['kind']): string {
  return prefix + kind.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** The architecture of one of our own `model_type`s; undefined for others. */
export function findOwnArchitecture(modelType: string): Architecture | undefined {
  if (!modelType.startsWith(prefix)) return undefined;
  const kind = modelType
    .slice(prefix.length)
    .replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
  return {
    modelType,
    readConfig: ({ config, file }) => {
      const { model_type: _, ...options } = config;
      return parseOptions({ kind, ...options }, file);
    },
    writeConfig: (options) => options,
    tensors: (options) =>
      [...createModel(options).parameters()].map(([name, { shape }]) => ({
        tensor: name,
        shape,
        parts: [{ parameter: name }],
      })),
  };
}
