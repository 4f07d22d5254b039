/**
 * Checkpoints from one layout into another, tensor by tensor.
 * @module
 */
import { existsSync } from 'node:fs';
import { copyFile, open } from 'node:fs/promises';
import { join } from 'node:path';
import { loadTokenizer, type Tokenizer } from '../../data/index.js';
import { createFolder } from '../atomic-folder.js';
import { createSynced } from '../atomic-file.js';
import type { ExpertLayout, TensorMapping } from '../hugging-face/architecture.js';
import { configText } from '../hugging-face/config-text.js';
import { ModelFolderError } from '../hugging-face/errors.js';
import { architectures } from '../hugging-face/index.js';
import { encodeJson, type JsonObject } from '../json.js';
import { openCheckpoint, type Checkpoint } from '../model-folder/checkpoint.js';
import { expertOfTensor, findOwnArchitecture, ownModelType } from '../model-folder/own-architectures.js';
import { checkAliases } from '../model-folder/read-parameters.js';
import { elementsOf, type PlannedTensor } from '../safetensors/dtypes.js';
import type { EncodableDType } from '../safetensors/encode.js';
import { PADDING_PREFIX } from '../tensors/save.js';
import { saveTensors, type SaveProgress } from '../tensors/index.js';
import { fitArchitecture } from './fit.js';
import { floatDTypes, planCopy, planParameters, type FloatDTypeName } from './plan.js';

/** What a conversion may choose. */
export interface ConversionOptions {
  /** Element type of all weights; as they are stored when absent. */
  readonly dtype?: FloatDTypeName | undefined;
  /** Most bytes of one file of weights; 5·10⁹ when absent. */
  readonly maxShardBytes?: number | undefined;
  readonly onProgress?: (progress: SaveProgress) => void;
}

/** What an import may choose besides. */
export interface ImportOptions extends ConversionOptions {
  /**
   * Whether each expert is to lie in one piece, aligned to blocks of the disk and of one element type, so that a server
   * gets it with one direct read.
   */
  readonly pack?: boolean | undefined;
}

/** What an export to Hugging Face's layout may choose besides. */
export interface HuggingFaceOptions extends ConversionOptions {
  /** `model_type` to write; that of the checkpoint, or the first that has such models, when absent. */
  readonly modelType?: string | undefined;
  /** Whether experts are stored each by itself, which every version of `transformers` reads, or all together. */
  readonly layout?: ExpertLayout;
}

/** What was written. */
export interface Conversion {
  /** `model_type` of the folder. */
  readonly modelType: string;
  readonly tensors: number;
  readonly parameters: number;
}

/**
 * Writes any checkpoint that {@link openCheckpoint} opens as a model folder of ours. The folder appears whole or not at
 * all; at most one tensor is in memory.
 *
 * @throws as {@link openCheckpoint}, and FolderError where the folder cannot be made.
 */
export function importCheckpoint(
  source: string,
  folder: string,
  options: ImportOptions = {},
): Promise<Conversion> {
  return convert(source, folder, options, (checkpoint) => {
    const { kind } = checkpoint.options;
    const modelType = ownModelType(kind);
    const mapping = findOwnArchitecture(modelType)!.tensors(checkpoint.options, {
      layout: options.pack ? 'perExpert' : 'fused',
      present: new Set(),
    });
    const dtype = options.dtype && floatDTypes[options.dtype];
    const config = { model_type: modelType, ...checkpoint.options };
    const ordinary = mapping.filter(({ tensor }) => expertOfTensor(tensor) === undefined);
    const groups = groupExperts(checkpoint, mapping, dtype);
    if (options.pack && groups.length === 0)
      throw new ModelFolderError(`${checkpoint.location}: the model has no experts that could be packed`);
    return { config, tensors: planParameters(checkpoint, ordinary, dtype), groups };
  });
}

/** The tensors of each expert that has some of its own, all of one element type. */
function groupExperts(
  checkpoint: Checkpoint,
  mapping: readonly TensorMapping[],
  dtype: EncodableDType | undefined,
): PlannedTensor[][] {
  const experts = new Map<string, TensorMapping[]>();
  for (const entry of mapping) {
    const expert = expertOfTensor(entry.tensor);
    if (expert !== undefined) experts.set(expert, [...(experts.get(expert) ?? []), entry]);
  }
  const planned = planParameters(checkpoint, [...experts.values()].flat(), dtype);
  let at = 0;
  return [...experts.values()].map((entries) => {
    const group = planned.slice(at, (at += entries.length));
    const isUniform = group.every((tensor) => tensor.dtype === group[0].dtype);
    return isUniform ? group : planParameters(checkpoint, entries, 'F32');
  });
}

/**
 * Writes a checkpoint as `transformers` reads it: configuration, tensors, tokenizer. The folder appears whole or not at
 * all; at most one tensor is in memory.
 *
 * @throws ModelFolderError if no architecture has such models, saying for each why; FolderError.
 */
export function exportHuggingFace(
  source: string,
  folder: string,
  options: HuggingFaceOptions = {},
): Promise<Conversion> {
  return convert(source, folder, options, (checkpoint, tokenizer) => {
    const { modelType, layout = 'perExpert', dtype } = options;
    const own = architectures.find(
      (each) => each === checkpoint.architecture && (modelType ?? each.modelType) === each.modelType,
    );
    const fit = own ?? fitArchitecture(checkpoint.options, modelType, checkpoint.location);
    const { architecture, config } =
      'architecture' in fit ? fit : { architecture: fit, config: withoutTypes(checkpoint.config) };
    const mapping = architecture.tensors(checkpoint.options, { layout, present: new Set() });
    const tensors = planParameters(checkpoint, mapping, dtype && floatDTypes[dtype]);
    return {
      config: {
        ...(architecture.className === undefined ? {} : { architectures: [architecture.className] }),
        model_type: architecture.modelType,
        ...specialIds(tokenizer),
        ...config,
        torch_dtype: dtypeName(tensors),
      },
      tensors,
      tokenizerConfig: tokenizer && tokenizerConfig(tokenizer, checkpoint),
    };
  });
}

/**
 * Writes a checkpoint in its own layout with every tensor dense: what is compressed is rebuilt, the rest is copied bit for
 * bit. The folder appears whole or not at all.
 */
export function exportDense(
  source: string,
  folder: string,
  options: ConversionOptions = {},
): Promise<Conversion> {
  return convert(source, folder, options, ({ source: tensors, config: { compression: _, ...config } }) => {
    const isPadding = (name: string): boolean => name.startsWith(PADDING_PREFIX);
    const planned = planCopy(tensors, options.dtype && floatDTypes[options.dtype], isPadding);
    const names = ['torch_dtype', 'dtype'].filter((key) => key in config);
    const types = Object.fromEntries(names.map((key) => [key, dtypeName(planned)]));
    return { config: options.dtype ? { ...config, ...types } : config, tensors: planned };
  });
}

/** What a folder will hold. */
interface Content {
  readonly config: JsonObject;
  readonly tensors: readonly PlannedTensor[];
  /** More tensors, each group in one piece. */
  readonly groups?: readonly (readonly PlannedTensor[])[];
  /** Written where the source has none of its own. */
  readonly tokenizerConfig?: JsonObject | undefined;
}

/** Files beside a tokenizer that are copied as they are. */
const companions = [
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'chat_template.jinja',
  'generation_config.json',
] as const;

async function convert(
  source: string,
  folder: string,
  { maxShardBytes, onProgress }: ConversionOptions,
  contentOf: (checkpoint: Checkpoint, tokenizer: Tokenizer | undefined) => Content,
): Promise<Conversion> {
  const checkpoint = await openCheckpoint(source);
  try {
    await checkAliases(checkpoint);
    const { tokenizerFile } = checkpoint;
    const tokenizer = tokenizerFile === undefined ? undefined : loadTokenizer(tokenizerFile);
    const { config, tensors, groups = [], tokenizerConfig } = contentOf(checkpoint, tokenizer);
    await createFolder(folder, async (temporary) => {
      const write = (name: string, text: string): Promise<void> =>
        createSynced(join(temporary, name), (handle) => handle.writeFile(text));
      const put = (name: string, value: unknown, indent: number): Promise<void> =>
        write(name, `${encodeJson(value, indent)}\n`);
      await write('config.json', configText(config));
      if (tokenizer) await put('tokenizer.json', tokenizer.toFile(), 0);
      for (const name of companions) {
        const file = join(checkpoint.location, name);
        if (existsSync(file)) await copySynced(file, join(temporary, name));
        else if (name === 'tokenizer_config.json' && tokenizerConfig) await put(name, tokenizerConfig, 2);
      }
      await saveTensors(temporary, tensors, {
        groups,
        ...(maxShardBytes === undefined ? {} : { maxShardBytes }),
        ...(onProgress ? { onProgress } : {}),
      });
    });
    const all = [...tensors, ...groups.flat()];
    const parameters = all.reduce((sum, { shape }) => sum + elementsOf(shape), 0);
    return { modelType: config['model_type'] as string, tensors: all.length, parameters };
  } finally {
    await checkpoint.close();
  }
}

async function copySynced(from: string, to: string): Promise<void> {
  await copyFile(from, to);
  const handle = await open(to, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** The configuration of a checkpoint of Hugging Face, without what {@link exportHuggingFace} says anew. */
function withoutTypes(config: JsonObject): JsonObject {
  const { compression: _, torch_dtype: __, dtype: ___, ...rest } = config;
  return rest;
}

/** The type of the weights for `config.json`; that of most numbers where they differ. */
function dtypeName(tensors: readonly PlannedTensor[]): FloatDTypeName {
  const counts = new Map<string, number>();
  for (const { dtype, shape } of tensors) counts.set(dtype, (counts.get(dtype) ?? 0) + elementsOf(shape));
  const [most] = [...counts].sort(([, a], [, b]) => b - a)[0] ?? [];
  const found = Object.entries(floatDTypes).find(([, dtype]) => dtype === most);
  return (found?.[0] as FloatDTypeName | undefined) ?? 'float32';
}

const specialKeys = { bos: 'bos_token', eos: 'eos_token', pad: 'pad_token', unknown: 'unk_token' } as const;

function specialIds(tokenizer: Tokenizer | undefined): JsonObject {
  const { bos, eos, pad } = tokenizer?.special ?? {};
  return {
    ...(bos === undefined ? {} : { bos_token_id: bos }),
    ...(eos === undefined ? {} : { eos_token_id: eos }),
    ...(pad === undefined ? {} : { pad_token_id: pad }),
  };
}

/** What `transformers` needs beside a `tokenizer.json`. */
function tokenizerConfig(tokenizer: Tokenizer, { options }: Checkpoint): JsonObject {
  const added = (tokenizer.toFile()['added_tokens'] ?? []) as readonly { id: number; content: string }[];
  const contents = new Map(added.map(({ id, content }) => [id, content]));
  const tokens = Object.entries(specialKeys).flatMap(([kind, key]): [string, string][] => {
    const id = tokenizer.special[kind as keyof typeof specialKeys];
    const content = id === undefined ? undefined : contents.get(id);
    return content === undefined ? [] : [[key, content]];
  });
  return {
    tokenizer_class: 'PreTrainedTokenizerFast',
    ...Object.fromEntries(tokens),
    ...('contextLength' in options ? { model_max_length: options.contextLength } : {}),
    clean_up_tokenization_spaces: false,
  };
}
