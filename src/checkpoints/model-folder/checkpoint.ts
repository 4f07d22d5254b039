/**
 * A checkpoint of any layout that we know, as options and parameters of ours.
 * @module
 */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ModelOptions } from '../../models/index.js';
import { parseCompression, RestoringSource, type RestoreOptions } from '../compressed/index.js';
import type { Architecture, TensorMapping } from '../hugging-face/architecture.js';
import { ConfigReader } from '../hugging-face/config-reader.js';
import { ModelFolderError } from '../hugging-face/errors.js';
import { architectures } from '../hugging-face/index.js';
import { parseOptions } from '../hugging-face/options.js';
import type { JsonObject } from '../json.js';
import { openLlama2c } from '../llama2c/open.js';
import { explain } from '../system-error.js';
import { openTensors, type TensorSource } from '../tensors/index.js';
import { checkTensors } from './completeness.js';
import { findOwnArchitecture } from './own-architectures.js';
import { ParameterReader, type ParameterSlice } from './parameter-reader.js';

/** Changes options before they are checked: routing that is to be other than it was trained. */
export type ConfigChange = (options: object) => void;

/** An open checkpoint. No weights are read until they are asked for. */
export interface Checkpoint {
  /** The folder, for messages. */
  readonly location: string;
  readonly architecture: Architecture;
  /** `config.json` as it is stored. */
  readonly config: JsonObject;
  /** The model that it describes. */
  readonly options: ModelOptions;
  /** Stored tensors; those of a compressed folder under their original names, rebuilt when they are read. */
  readonly source: TensorSource;
  /** What they are in our model: every parameter once, every tensor once. */
  readonly mapping: readonly TensorMapping[];
  /** Path of `tokenizer.json`, or of a vocabulary in another format, where there is one. */
  readonly tokenizerFile: string | undefined;
  /**
   * Reads a parameter, or one slice of its first axis such as an expert of a bank, as float32 in our layout.
   * @throws SafetensorsError
   */
  readParameter(name: string, slice?: ParameterSlice): Promise<Float32Array>;
  close(): Promise<void>;
}

/**
 * Opens a folder with `config.json` and weights: Hugging Face's, one of our model folders, or a compressed one; or a
 * model of llama2.c.
 *
 * @param change changes the options before they are checked.
 * @param restore how the experts of a compressed folder are rebuilt.
 * @example
 * ```ts
 * const checkpoint = await openCheckpoint('OLMoE-1B-7B/');
 * console.log(checkpoint.options.hiddenSize);
 * const expert = await checkpoint.readParameter('blocks.0.feedForward.experts.up', { at: 3 });
 * await checkpoint.close();
 * ```
 * @throws ModelFolderError if the configuration is not understood, or does not fit the tensors: every tensor must be
 *   used once, and none may be missing.
 * @throws SafetensorsError or CompressedFormatError naming the damaged file.
 */
export async function openCheckpoint(
  folder: string,
  change?: ConfigChange,
  restore?: RestoreOptions,
): Promise<Checkpoint> {
  const foreign = await openLlama2c(folder);
  if (foreign) {
    const { config, configFile, source, tokenizerFile } = foreign;
    return assemble(folder, source, tokenizerFile, () => describe(config, configFile, change));
  }
  const described = await readModelConfig(folder, change);
  const tokenizerFile = tokenizerFiles.map((name) => join(folder, name)).find((file) => existsSync(file));
  const source = await openSource(folder, described.config, restore);
  return assemble(folder, source, tokenizerFile, () => described);
}

/** Names under which checkpoints keep their vocabulary, best first. */
const tokenizerFiles = ['tokenizer.json', 'tokenizer.model', 'spiece.model', 'vocab.txt'] as const;

/** Puts a checkpoint together; on failure its files are closed. */
async function assemble(
  location: string,
  source: TensorSource,
  tokenizerFile: string | undefined,
  describeModel: () => ModelConfig,
): Promise<Checkpoint> {
  try {
    const { config, architecture, options } = describeModel();
    const mapping = checkTensors(source, architecture, options);
    const reader = new ParameterReader(source, mapping);
    return {
      location,
      architecture,
      config,
      options,
      source,
      mapping,
      tokenizerFile,
      readParameter: (name, slice) => reader.read(name, slice),
      close: () => source.close(),
    };
  } catch (error) {
    await source.close();
    throw error;
  }
}

async function openSource(
  folder: string,
  { compression }: JsonObject,
  restore: RestoreOptions | undefined,
): Promise<TensorSource> {
  if (compression === undefined) return openTensors(folder);
  const header = parseCompression(compression, join(folder, 'config.json'));
  return RestoringSource.open(await openTensors(folder), header, restore);
}

/** A configuration, and what it means. */
export interface ModelConfig {
  readonly config: JsonObject;
  readonly architecture: Architecture;
  readonly options: ModelOptions;
}

/**
 * Reads the `config.json` of a model folder.
 * @throws ModelFolderError if there is none, or it describes no model that we know.
 */
export async function readModelConfig(folder: string, change?: ConfigChange): Promise<ModelConfig> {
  const file = join(folder, 'config.json');
  return describe(parseConfig(await readConfigText(file), file), file, change);
}

function describe(config: JsonObject, file: string, change: ConfigChange | undefined): ModelConfig {
  const type = config['model_type'];
  const found =
    typeof type === 'string'
      ? (architectures.find(({ modelType }) => modelType === type) ?? findOwnArchitecture(type))
      : undefined;
  if (!found) {
    const known = architectures.map(({ modelType }) => modelType).join(', ');
    throw new ModelFolderError(
      `${file}: model_type ${JSON.stringify(type)} is not known; expected one of ${known}, or a model of switchyard`,
    );
  }
  const { compression: _, ...described } = config;
  const options = found.readConfig(new ConfigReader(described, file));
  if (!change) return { config, architecture: found, options };
  const changed = structuredClone(options);
  change(changed);
  return { config, architecture: found, options: parseOptions(changed, file) };
}

async function readConfigText(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    throw new ModelFolderError(`there is no model here: cannot read ${file}: ${explain(error)}`);
  }
}

function parseConfig(text: string, file: string): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new ModelFolderError(`${file}: not JSON: ${(error as Error).message}`);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new ModelFolderError(`${file}: not an object`);
  return value as JsonObject;
}
