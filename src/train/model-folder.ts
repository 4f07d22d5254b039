/**
 * A model on disk: `config.json`, `model.safetensors`, `tokenizer.json`. The folder can be moved and opened anywhere.
 * @module
 */
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import {
  encodeJson,
  ModelFolderError,
  factorised,
  openCheckpoint,
  ownModelType,
  readModelConfig,
  readParameters,
  replaceFile,
  saveSafetensors,
  type Checkpoint,
  type ConfigChange,
  type JsonObject,
  type NamedTensor,
} from '../checkpoints/index.js';
import { loadTokenizer, type Tokenizer } from '../data/index.js';
import { createModel, LanguageModel, type Model, type ModelOptions } from '../models/index.js';
import { nameParameters } from '../nn/index.js';
import { CheckpointStore } from './checkpoint-store.js';

/** A model of any kind with its weights in memory. */
export interface LoadedModel {
  readonly model: Model;
  /** Absent where the folder has none. */
  readonly tokenizer: Tokenizer | undefined;
  /** Every parameter by name. */
  readonly weights: ReadonlyMap<string, Float32Array>;
  /** Where the weights came from. */
  readonly source: string;
  /** One line for every newer checkpoint of a run that was damaged and passed over. */
  readonly warnings: readonly string[];
}

/** A model of any kind with what turns texts into its tokens. */
export interface LoadedTextModel extends LoadedModel {
  readonly tokenizer: Tokenizer;
}

/** A language model with what turns texts into its tokens. */
export interface LoadedLanguageModel extends LoadedTextModel {
  readonly model: LanguageModel;
}

/** Weights as tensors of a file, in the order of the model. */
export function namedTensors(
  shapes: ReadonlyMap<string, readonly number[]>,
  values: ReadonlyMap<string, Float32Array>,
): NamedTensor[] {
  return [...values].map(([name, data]) => ({ name, dtype: 'F32', shape: shapes.get(name)!, data }));
}

/** Writes configuration and tokenizer; {@link saveModelWeights} completes the folder. */
export async function saveModelConfig(
  path: string,
  options: ModelOptions,
  tokenizer: Tokenizer,
): Promise<void> {
  await mkdir(path, { recursive: true });
  const config = { model_type: ownModelType(options.kind), ...options } as unknown as JsonObject;
  await replaceFile(join(path, 'config.json'), (handle) => handle.writeFile(`${encodeJson(config, 2)}\n`));
  const file = tokenizer.toFile() as unknown as JsonObject;
  await replaceFile(join(path, 'tokenizer.json'), (handle) => handle.writeFile(`${JSON.stringify(file)}\n`));
}

/** Writes the weights of a model folder, which appear whole or not at all. */
export async function saveModelWeights(path: string, tensors: readonly NamedTensor[]): Promise<void> {
  await saveSafetensors(join(path, 'model.safetensors'), tensors, { metadata: { format: 'pt' } });
}

/** Options of {@link loadModel}. */
export interface LoadOptions {
  /**
   * Of a compressed folder: `rebuilt` experts, as large as the original's and as quick (the default); or `factorised` ones,
   * which stay as small as they are stored, where they are stored as a centre and factors.
   */
  readonly experts?: ExpertForm;
}

/** Choices of {@link LoadOptions.experts}. */
export const expertForms = ['rebuilt', 'factorised'] as const;

/** One of {@link expertForms}. */
export type ExpertForm = (typeof expertForms)[number];

/**
 * Opens a model folder, ours or Hugging Face's; or a run folder: its finished model, or while there is none its newest
 * usable checkpoint.
 *
 * @param change changes the options before they are checked.
 * @throws ModelFolderError if it is neither, or its files do not belong together.
 * @throws CheckpointError or SafetensorsError naming the damaged file.
 */
export async function loadModel(
  path: string,
  change?: ConfigChange,
  options: LoadOptions = {},
): Promise<LoadedModel> {
  const isRun = existsSync(join(path, 'recipe.json'));
  const folder = isRun ? join(path, 'model') : path;
  const inRun = isRun && !existsSync(join(folder, 'model.safetensors'));
  return inRun ? loadFromRun(path, folder, change) : loadFromFolder(path, folder, change, options);
}

/**
 * Opens a language model with its tokenizer, as {@link loadModel}.
 * @throws ModelFolderError also if it is another kind of model, or has no `tokenizer.json`.
 */
export async function loadLanguageModel(
  path: string,
  change?: ConfigChange,
  options?: LoadOptions,
): Promise<LoadedLanguageModel> {
  const loaded = await loadModel(path, change, options);
  const { model } = loaded;
  if (model instanceof LanguageModel) return { ...withTokenizer(loaded, path), model };
  throw new ModelFolderError(
    `${path}: a language model is needed here, and this is of kind ${model.options.kind}`,
  );
}

/**
 * Opens a model of any kind with its tokenizer, as {@link loadModel}.
 * @throws ModelFolderError also if it has no `tokenizer.json`.
 */
export async function loadTextModel(
  path: string,
  change?: ConfigChange,
  options?: LoadOptions,
): Promise<LoadedTextModel> {
  return withTokenizer(await loadModel(path, change, options), path);
}

function withTokenizer(loaded: LoadedModel, path: string): LoadedTextModel {
  const { tokenizer } = loaded;
  if (tokenizer) return { ...loaded, tokenizer };
  throw new ModelFolderError(
    `${path}: there is no tokenizer.json, without which texts are no tokens; put the model's own beside its config.json`,
  );
}

async function loadFromFolder(
  path: string,
  folder: string,
  change: ConfigChange | undefined,
  { experts = 'rebuilt' }: LoadOptions,
): Promise<LoadedModel> {
  const opened = await openCheckpoint(folder, change);
  const checkpoint = experts === 'factorised' ? await closeOnError(opened, factorised) : opened;
  try {
    const model = createModel(checkpoint.options);
    const tokenizer = openTokenizer(checkpoint.tokenizerFile, model);
    const weights = allocate(model);
    await readParameters(checkpoint, weights);
    return { model, tokenizer, weights, source: path, warnings: [] };
  } finally {
    await checkpoint.close();
  }
}

async function closeOnError(
  checkpoint: Checkpoint,
  use: (checkpoint: Checkpoint) => Checkpoint,
): Promise<Checkpoint> {
  try {
    return use(checkpoint);
  } catch (error) {
    await checkpoint.close();
    throw error;
  }
}

async function loadFromRun(path: string, folder: string, change?: ConfigChange): Promise<LoadedModel> {
  const model = createModel((await readModelConfig(folder, change)).options);
  const tokenizer = openTokenizer(join(folder, 'tokenizer.json'), model);
  const weights = allocate(model);
  const shapes = new Map([...model.parameters()].map(([name, { shape }]) => [name, shape]));
  const store = new CheckpointStore(join(path, 'checkpoints'));
  const found = await store.loadLatestUsable({ model: namedTensors(shapes, weights) });
  if (!found) throw new ModelFolderError(`${path}: the run has no checkpoint yet`);
  const { step, warnings } = found;
  return { model, tokenizer, weights, source: `${path} at step ${step}`, warnings };
}

/**
 * The tokenizer beside a model, where there is one.
 * @throws ModelFolderError if the model has no room for its tokens.
 */
export function openTokenizer(
  file: string | undefined,
  { options: { vocabSize } }: Model,
): Tokenizer | undefined {
  if (file === undefined || !existsSync(file)) return undefined;
  const tokenizer = loadTokenizer(file);
  // A model may have room for more tokens than its tokenizer knows, as tables padded to a round size do.
  if (tokenizer.vocabSize <= vocabSize) return tokenizer;
  throw new ModelFolderError(
    `${file}: the tokenizer has ${tokenizer.vocabSize} tokens but the model has room for ${vocabSize}`,
  );
}

function allocate(model: Model): Map<string, Float32Array> {
  return new Map([...nameParameters(model)].map(([name, { size }]) => [name, new Float32Array(size)]));
}
