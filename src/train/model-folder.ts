/**
 * A model on disk: `config.json`, `model.safetensors`, `tokenizer.json`. The folder can be moved and opened anywhere.
 * @module
 */
import { existsSync, readFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import {
  encodeJson,
  explain,
  replaceFile,
  SafetensorsFile,
  saveSafetensors,
  type JsonObject,
  type NamedTensor,
} from '../checkpoints/index.js';
import { loadTokenizer, type Tokenizer } from '../data/index.js';
import { LanguageModel, languageModelSchema, type LanguageModelOptions } from '../models/index.js';
import { nameParameters } from '../nn/index.js';
import { CheckpointStore } from './checkpoint-store.js';

/** `model_type` of our own models in `config.json`. */
const MODEL_TYPE = 'switchyard_language_model';

/** Thrown when a folder does not hold a model that we can open; the message names the file. */
export class ModelFolderError extends Error {
  override readonly name = 'ModelFolderError';
}

/** A model with its weights in memory. */
export interface LoadedModel {
  readonly model: LanguageModel;
  readonly tokenizer: Tokenizer;
  /** Every parameter by name. */
  readonly weights: ReadonlyMap<string, Float32Array>;
  /** Where the weights came from. */
  readonly source: string;
  /** One line for every newer checkpoint of a run that was damaged and passed over. */
  readonly warnings: readonly string[];
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
  options: LanguageModelOptions,
  tokenizer: Tokenizer,
): Promise<void> {
  await mkdir(path, { recursive: true });
  const config = { model_type: MODEL_TYPE, ...options } as unknown as JsonObject;
  await replaceFile(join(path, 'config.json'), (handle) => handle.writeFile(`${encodeJson(config, 2)}\n`));
  const file = tokenizer.toFile() as unknown as JsonObject;
  await replaceFile(join(path, 'tokenizer.json'), (handle) => handle.writeFile(`${JSON.stringify(file)}\n`));
}

/** Writes the weights of a model folder, which appear whole or not at all. */
export async function saveModelWeights(path: string, tensors: readonly NamedTensor[]): Promise<void> {
  await saveSafetensors(join(path, 'model.safetensors'), tensors, { metadata: { format: 'pt' } });
}

/** Changes a configuration before it is checked: routing that is to be other than it was trained. */
export type ConfigChange = (config: object) => void;

/**
 * Opens a model folder; or a run folder: its finished model, or while there is none its newest usable checkpoint.
 *
 * @throws ModelFolderError if it is neither, or its files do not belong together.
 * @throws CheckpointError or SafetensorsError naming the damaged file.
 */
export async function loadModel(path: string, change?: ConfigChange): Promise<LoadedModel> {
  const isRun = existsSync(join(path, 'recipe.json'));
  const folder = isRun ? join(path, 'model') : path;
  const model = new LanguageModel(readModelConfig(folder, change));
  const tokenizer = loadTokenizer(join(folder, 'tokenizer.json'));
  // A model may have room for more tokens than its tokenizer knows, as tables padded to a round size do.
  if (tokenizer.vocabSize > model.options.vocabSize) {
    throw new ModelFolderError(
      `${folder}: the tokenizer has ${tokenizer.vocabSize} tokens but config.json says vocabSize ${model.options.vocabSize}`,
    );
  }
  const parameters = nameParameters(model);
  const weights = new Map([...parameters].map(([name, { size }]) => [name, new Float32Array(size)]));
  const tensors = [...weights].map(([name, data]): NamedTensor => {
    return { name, dtype: 'F32', shape: parameters.get(name)!.shape, data };
  });
  if (isRun && !existsSync(join(folder, 'model.safetensors'))) {
    const found = await new CheckpointStore(join(path, 'checkpoints')).loadLatestUsable({ model: tensors });
    if (!found) throw new ModelFolderError(`${path}: the run has no checkpoint yet`);
    const { step, warnings } = found;
    return { model, tokenizer, weights, source: `${path} at step ${step}`, warnings };
  }
  await readWeights(join(folder, 'model.safetensors'), tensors);
  return { model, tokenizer, weights, source: path, warnings: [] };
}

/**
 * Reads the `config.json` of a model folder.
 * @throws ModelFolderError if there is none, or it describes no model of ours.
 */
export function readModelConfig(folder: string, change?: ConfigChange): LanguageModelOptions {
  const file = join(folder, 'config.json');
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    if (error instanceof SyntaxError) throw new ModelFolderError(`${file}: not JSON: ${error.message}`);
    throw new ModelFolderError(`there is no model here: cannot read ${file}: ${explain(error)}`);
  }
  const { model_type: type, ...rest } = (value ?? {}) as Record<string, unknown>;
  if (type !== MODEL_TYPE) {
    throw new ModelFolderError(
      `${file}: model_type ${JSON.stringify(type)} is not known; expected "${MODEL_TYPE}"`,
    );
  }
  change?.(rest);
  const parsed = languageModelSchema.safeParse(rest);
  if (!parsed.success || parsed.data.vocabSize === undefined) {
    const issue = parsed.success ? undefined : parsed.error.issues[0];
    throw new ModelFolderError(
      `${file}: ${issue ? `${issue.path.join('.')}: ${issue.message}` : 'vocabSize is missing'}`,
    );
  }
  return { ...parsed.data, vocabSize: parsed.data.vocabSize };
}

async function readWeights(file: string, tensors: readonly NamedTensor[]): Promise<void> {
  const opened = await SafetensorsFile.open(file);
  try {
    const wanted = new Set(tensors.map(({ name }) => name));
    const extra = [...opened.tensors.keys()].filter((name) => !wanted.has(name));
    const missing = [...wanted].filter((name) => !opened.tensors.has(name));
    if (extra.length + missing.length > 0) {
      throw new ModelFolderError(
        `${file} does not fit config.json: missing ${list(missing)}; not expected ${list(extra)}`,
      );
    }
    for (const { name, data, shape } of tensors) {
      const stored = opened.tensors.get(name)!;
      if (stored.dtype !== 'F32' || stored.shape.join() !== shape.join()) {
        throw new ModelFolderError(
          `${file}: ${name} is ${stored.dtype} [${stored.shape.join(', ')}], expected F32 [${shape.join(', ')}]`,
        );
      }
      await opened.read(name, { into: data as Float32Array });
    }
  } finally {
    await opened.close();
  }
}

function list(names: readonly string[]): string {
  return names.length === 0 ? 'nothing' : names.join(', ');
}
