/**
 * What an engine needs of a model.
 * @module
 */
import { input } from '../../graph/index.js';
import type { ChatTemplate, Tokenizer } from '../../data/index.js';
import type { Passes } from '../../decode/index.js';
import { Classifier, EncoderDecoder, type LanguageModel, type Model } from '../../models/index.js';
import type { RoutingRecord } from '../../moe/index.js';
import { evaluationContext } from '../../nn/index.js';
import type { ModelInfo, Placement } from '../engine-client.js';
import type { EngineStats } from '../engine-stats.js';
import { CachedBatch } from './cached-batch.js';
import type { TextListener } from './hooks.js';
import type { PromptReader } from './prompt-reader.js';
import { RoutingTap } from './routing-tap.js';
import { TargetBatch } from './target-batch.js';
import type { TextBatch } from './text-batch.js';
import { TextsBatch } from './texts-batch.js';
import { WindowBatch } from './window-batch.js';

/** A model that is ready to be asked. */
export interface ServedParts {
  readonly info: ModelInfo;
  readonly reader: PromptReader;
  /** Ids that end a text. */
  readonly endTokens: readonly number[];
  /** Where it writes. */
  readonly batch: TextBatch | undefined;
  /** Where it tells classes and vectors. */
  readonly texts: TextsBatch | undefined;
  /** Counters of the expert store. */
  readonly storeStats: () => EngineStats['store'];
  /** Where its experts are. */
  readonly storeExperts: () => EngineStats['experts'];
  readonly close: () => Promise<void>;
}

/** A model over whatever its weights are in, with what turns texts into its tokens. */
export interface PreparedModel {
  /** Its name in requests. */
  readonly name: string;
  readonly model: Model;
  readonly tokenizer: Tokenizer;
  readonly passes: Passes;
  /** Closes everything; releases the passes when absent. */
  readonly close?: () => Promise<void>;
  readonly chatTemplate?: ChatTemplate | undefined;
  /** Ids before those of a text; none when absent. */
  readonly start?: readonly number[];
  /** Ids that end a text, besides that of the tokenizer or the model. */
  readonly stopTokens?: readonly number[];
  readonly placement?: readonly Placement[];
  readonly settings?: ModelInfo['settings'];
  /** Is told of texts as soon as a request about them has arrived. */
  readonly listener?: TextListener | undefined;
  /** Experts of a token where predictions take the routers' place; the routers' own number when absent. */
  readonly guesses?: number | undefined;
  /** Counters of its expert store. */
  readonly storeStats?: () => EngineStats['store'];
  /** Where its experts are. */
  readonly storeExperts?: () => EngineStats['experts'];
}

/**
 * Compiles what single short requests need.
 * @throws RangeError if the model cannot write text from left to right, because what it says depends on later tokens.
 */
export async function servedParts(prepared: PreparedModel): Promise<ServedParts> {
  const { model, tokenizer, passes, chatTemplate, start = [], stopTokens = [], guesses } = prepared;
  const tap = RoutingTap.of(recordsOf(model), guesses);
  const batch = model instanceof Classifier ? undefined : await openBatch(model, passes, tap);
  const readsSources = model instanceof Classifier || model instanceof EncoderDecoder;
  const texts = readsSources ? new TextsBatch(model, passes, tap, prepared.listener) : undefined;
  if (model instanceof Classifier) await texts!.open();
  const end = (readsSources ? model.options.eosTokenId : undefined) ?? tokenizer.special.eos;
  return {
    info: infoOf(prepared, tap),
    reader: { tokenizer, start, end: readsSources ? end : undefined, chatTemplate },
    endTokens: [...new Set([...(end === undefined ? [] : [end]), ...stopTokens])],
    batch,
    texts,
    storeStats: prepared.storeStats ?? ((): EngineStats['store'] => ({})),
    storeExperts: prepared.storeExperts ?? ((): EngineStats['experts'] => undefined),
    close: prepared.close ?? (() => passes.release()),
  };
}

async function openBatch(
  model: LanguageModel | EncoderDecoder,
  passes: Passes,
  tap: RoutingTap,
): Promise<TextBatch> {
  const [leak] = model.leaks;
  if (leak !== undefined)
    throw new RangeError(`the model looks ahead, so it cannot write text from left to right: ${leak}`);
  if (model instanceof EncoderDecoder) return new TargetBatch(model, passes, tap).open();
  const Batch = model.wholeText === undefined ? CachedBatch : WindowBatch;
  return new Batch(model, passes, tap).open();
}

function infoOf(
  { name, model, chatTemplate, placement, settings }: PreparedModel,
  tap: RoutingTap,
): ModelInfo {
  const { kind, vocabSize, hiddenSize, contextLength } = model.options;
  const isClassifier = model instanceof Classifier;
  const isPair = model instanceof EncoderDecoder;
  return {
    name,
    kind,
    contextLength: isClassifier || isPair ? contextLength : model.windowLength,
    ...(isPair && { targetLength: model.decoder.maxTime }),
    ...(isClassifier && { numLabels: model.options.numLabels }),
    vocabSize,
    hiddenSize,
    hasChatTemplate: chatTemplate !== undefined,
    tasks: isClassifier ? ['classify', 'embed'] : isPair ? ['generate', 'embed'] : ['generate'],
    routedLayers: tap.layers,
    placement: placement ?? [],
    settings: settings ?? {},
  };
}

/** Traces a model once, to know where it routes. */
function recordsOf(model: Model): readonly RoutingRecord[] {
  const context = evaluationContext();
  const tokens = (name: string, time: number): ReturnType<typeof input> => input(name, 'int32', [1, time]);
  if (model instanceof Classifier) return model.forward({ source: tokens('source', 1) }, context).records;
  if (model instanceof EncoderDecoder)
    return model.forward({ source: tokens('source', 1), target: tokens('target', 1) }, context).records;
  const time = model.wholeText === undefined ? 1 : model.windowLength;
  return model.forward({ tokens: tokens('tokens', time) }, context).records;
}
