/**
 * A model that writes, with everything that turns its tokens into text.
 * @module
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { ModelFolderError, readStopTokens } from '../checkpoints/index.js';
import { textStart, type Tokenizer } from '../data/index.js';
import { Generator } from '../decode/index.js';
import { EncoderDecoder, LanguageModel } from '../models/index.js';
import type { Device } from '../runtime/index.js';
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
}

/** Settings of {@link openWriter}. */
export interface OpenWriterOptions {
  readonly device: Device;
  readonly set?: readonly string[] | undefined;
  /** How the experts of a compressed model are computed. */
  readonly experts?: ExpertForm;
  /** Whether prompts begin with what the tokenizer begins texts with. Runs were trained without. */
  readonly start: boolean;
}

/**
 * Opens a run or model folder for writing, and says on stderr what was passed over.
 * @throws ModelFolderError if it holds another kind of model than a language model or an encoder–decoder.
 */
export async function openWriter(
  path: string,
  { device, set, start: starts, ...load }: OpenWriterOptions,
): Promise<OpenWriter> {
  const { model, tokenizer, weights, warnings } = await loadTextModel(path, changeModel(set), load);
  for (const line of warnings) process.stderr.write(`warning: ${line}\n`);
  if (!(model instanceof LanguageModel || model instanceof EncoderDecoder)) {
    throw new ModelFolderError(`${path}: a model of kind ${model.options.kind} does not write text`);
  }
  const isRun = existsSync(join(path, 'recipe.json'));
  const folder = isRun ? join(path, 'model') : path;
  const readsSources = model instanceof EncoderDecoder;
  const end = (readsSources ? model.options.eosTokenId : undefined) ?? tokenizer.special.eos;
  const start = readsSources || isRun || !starts ? [] : textStart(folder, tokenizer);
  return {
    generator: await Generator.create(model, weights, runtimeOptions({ device, threads: null })),
    tokenizer,
    folder,
    readsSources,
    stopTokens: [...new Set([...(end === undefined ? [] : [end]), ...readStopTokens(folder)])],
    encode: (prompt) => {
      const ids = tokenizer.encode(prompt);
      return [...start, ...ids, ...(readsSources && end !== undefined && ids.at(-1) !== end ? [end] : [])];
    },
  };
}
