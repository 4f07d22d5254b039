/**
 * Our own model folders: `config.json` holds the options as a recipe does, and tensors have the names of parameters. In a
 * packed folder every expert has tensors of its own.
 * @module
 */
import { createModel, type ModelOptions } from '../../models/index.js';
import type { Architecture, TensorMapping } from '../hugging-face/architecture.js';
import { parseOptions } from '../hugging-face/options.js';
import { PADDING_PREFIX } from '../tensors/save.js';

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
    tensors: (options, { present, layout }) => {
      const isPacked =
        present.size === 0 ? layout === 'perExpert' : [...present].some((name) => singleExpert.test(name));
      return [...createModel(options).parameters()].flatMap(
        ([name, { shape }]): TensorMapping[] =>
          (isPacked ? expertTensors(name, shape) : undefined) ?? [
            { tensor: name, shape, parts: [{ parameter: name }] },
          ],
      );
    },
    ignores: (tensor) => tensor.startsWith(PADDING_PREFIX),
  };
}

/** A tensor of one expert: `blocks.1.feedForward.experts.3.up.weight`. */
const singleExpert = /^(.*\.feedForward\.experts\.\d+)\.(?:gate|up|down)\.(?:weight|bias)$/;

/** What a tensor of a single expert belongs to; undefined for others. */
export function expertOfTensor(name: string): string | undefined {
  return singleExpert.exec(name)?.[1];
}

/** Parameters of ordinary experts as tensors of their own, the way `torch.nn.Linear` has them; undefined for others. */
function expertTensors(parameter: string, shape: readonly number[]): TensorMapping[] | undefined {
  const [, bank, role, bias] = /^(.*\.feedForward\.experts)\.(gate|up|down)(Bias)?$/.exec(parameter) ?? [];
  if (bank === undefined || shape.length !== (bias ? 2 : 3)) return undefined;
  const [numExperts, ...own] = shape;
  return Array.from({ length: numExperts }, (_, at) => ({
    tensor: `${bank}.${at}.${role}.${bias ? 'bias' : 'weight'}`,
    shape: own.toReversed(),
    parts: [bias ? { parameter, at } : { parameter, at, transpose: true }],
  }));
}
