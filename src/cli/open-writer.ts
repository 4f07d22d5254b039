/**
 * A model that writes, with everything that turns its tokens into text.
 * @module
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { ModelFolderError, readStopTokens } from '../checkpoints/index.js';
import { textStart, type Tokenizer } from '../data/index.js';
import { Generator, type Passes } from '../decode/index.js';
import { EncoderDecoder, LanguageModel, type Model } from '../models/index.js';
import type { Device, RuntimeOptions } from '../runtime/index.js';
import {
  loadServedModel,
  LookAheadPrefetch,
  type ExpertStoreStats,
  type PolicyName,
} from '../serve/index.js';
import { loadTextModel, runtimeOptions, type ExpertForm } from '../train/index.js';
import { changeModel } from './options.js';

/** What {@link openWriter} opened. */
export interface OpenWriter {
  readonly generator: Generator;
  readonly tokenizer: Tokenizer;
  /** The model folder, also where a run was named. */
  readonly folder: string;
  /** Whether prompts are sources, and what is written stands for itself. */
  readonly readsSources: boolean;
  /** Ids that end a text. */
  readonly stopTokens: readonly number[];
  /** Ids of a prompt as the model was trained to read them: with what begins a text, or ends a source. */
  readonly encode: (prompt: string) => number[];
  /** What the store of experts has done, where they are not all in memory. */
  readonly storeStats: () => ExpertStoreStats | undefined;
  /** Frees everything. */
  readonly close: () => Promise<void>;
}

/** Settings of {@link openWriter}. */
export interface OpenWriterOptions {
  readonly device: Device;
  readonly set?: readonly string[] | undefined;
  /** How the experts of a compressed model are computed. */
  readonly experts?: ExpertForm;
  /** Whether prompts begin with what the tokenizer begins texts with. Runs were trained without. */
  readonly start: boolean;
  /** Bytes for weights: experts are read when they are needed. Everything is in memory when absent. */
  readonly memoryBudget?: number;
  /** Under a budget, which expert gives way. */
  readonly policy?: PolicyName;
  readonly routingTrace?: string;
  /** Under a budget, whether experts are read ahead. */
  readonly mode?: 'none' | 'prefetch';
}

/**
 * Opens a run or model folder for writing, and says on stderr what was passed over.
 * @throws ModelFolderError if it holds another kind of model than a language model or an encoder–decoder.
 */
export async function openWriter(path: string, options: OpenWriterOptions): Promise<OpenWriter> {
  const runtime = runtimeOptions({ device: options.device, threads: null });
  const opened = await (options.memoryBudget === undefined ? openWhole : openServed)(path, options, runtime);
  const { model, tokenizer, weights } = opened;
  if (!(model instanceof LanguageModel || model instanceof EncoderDecoder)) {
    await opened.close();
    throw new ModelFolderError(`${path}: a model of kind ${model.options.kind} does not write text`);
  }
  const isRun = existsSync(join(path, 'recipe.json'));
  const folder = isRun ? join(path, 'model') : path;
  const readsSources = model instanceof EncoderDecoder;
  const end = (readsSources ? model.options.eosTokenId : undefined) ?? tokenizer.special.eos;
  const start = readsSources || isRun || !options.start ? [] : textStart(folder, tokenizer);
  const generator = await Generator.create(model, weights, runtime);
  return {
    generator,
    tokenizer,
    folder,
    readsSources,
    stopTokens: [...new Set([...(end === undefined ? [] : [end]), ...readStopTokens(folder)])],
    encode: (prompt) => {
      const ids = tokenizer.encode(prompt);
      return [...start, ...ids, ...(readsSources && end !== undefined && ids.at(-1) !== end ? [end] : [])];
    },
    storeStats: opened.storeStats,
    close: async () => {
      await generator.release();
      await opened.close();
    },
  };
}

/** A model with weights, wherever they are. */
interface Opened extends Pick<OpenWriter, 'tokenizer' | 'storeStats' | 'close'> {
  readonly model: Model;
  readonly weights: Iterable<readonly [string, Float32Array]> | Passes;
}

async function openWhole(path: string, { set, ...load }: OpenWriterOptions): Promise<Opened> {
  const { warnings, ...loaded } = await loadTextModel(path, changeModel(set), load);
  for (const line of warnings) process.stderr.write(`warning: ${line}\n`);
  return { ...loaded, storeStats: () => undefined, close: () => Promise.resolve() };
}

async function openServed(
  path: string,
  { set, memoryBudget, policy, routingTrace, mode = 'prefetch', experts }: OpenWriterOptions,
  runtime: RuntimeOptions,
): Promise<Opened> {
  const served = await loadServedModel(path, {
    ...{ memoryBudget, policy, routingTrace, experts, runtime, change: changeModel(set) },
    hooks: ({ store }) => (mode === 'prefetch' ? { prefetcher: new LookAheadPrefetch(store) } : {}),
  });
  const { model, passes, tokenizer, store } = served;
  const close = (): Promise<void> => served.close();
  if (tokenizer) return { model, tokenizer, weights: passes, storeStats: () => store?.stats, close };
  await close();
  throw new ModelFolderError(`${path}: there is no tokenizer.json, without which texts are no tokens`);
}
