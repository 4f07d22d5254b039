/**
 * What a served model, with its limits, says to a request before it is queued.
 * @module
 */
import type { GenerationRequest, TextsRequest } from '../engine-client.js';
import { RequestError } from '../engine-errors.js';
import {
  checkRequest,
  checkTotals,
  generationSchema,
  textsSchema,
  type CheckedRequest,
  type CheckedTexts,
} from './check-request.js';
import type { EngineLimits } from './engine-limits.js';
import { checkIds, encodePrompt, encodeText } from './prompt-reader.js';
import type { ServedParts } from './served-parts.js';
import type { TextBatch } from './text-batch.js';
import type { TextsTask } from './texts-job.js';

/** A request to write that can be served. */
export interface AcceptedGeneration {
  readonly checked: CheckedRequest;
  readonly batch: TextBatch;
  /** Ids. */
  readonly prompt: readonly number[];
  /** Tokens that each text gets at most: what was asked for, as far as there is room. */
  readonly maxTokens: number;
}

/** @throws RequestError naming the field that is wrong, or that the model cannot serve within its limits. */
export function acceptGeneration(
  { batch, reader, info }: ServedParts,
  { slots, cacheBytes }: EngineLimits,
  request: GenerationRequest,
): AcceptedGeneration {
  if (!batch) throw new RequestError('', `${info.name} is of kind ${info.kind}, which does not write text`);
  const checked = checkRequest(generationSchema, request);
  if (checked.n > slots) throw new RequestError('n', `${checked.n} texts are more than the ${slots} at once`);
  const { vocabSize } = reader.tokenizer;
  const stray = Object.keys(checked.logitBias).find((id) => Number(id) >= vocabSize);
  if (stray !== undefined)
    throw new RequestError(`logitBias.${stray}`, `is no token; ids are below ${vocabSize}`);
  if (checked.echo && info.kind === 'encoderDecoder')
    throw new RequestError('echo', 'what an encoder–decoder writes does not begin with its source');
  const prompt = encodePrompt(reader, checked.prompt);
  if (prompt.length > batch.maxPrompt)
    throw new RequestError(
      'prompt',
      `has ${prompt.length} tokens; the model takes at most ${batch.maxPrompt}: shorten it`,
    );
  const room = batch.room(prompt.length);
  const maxTokens = Math.min(checked.maxTokens ?? room, room);
  if (footprint(batch, prompt.length, maxTokens, checked.n) > cacheBytes)
    throw new RequestError(
      'maxTokens',
      `${checked.n} × ${prompt.length + maxTokens} tokens need more than the ${cacheBytes} bytes for keys and values`,
    );
  return { checked, batch, prompt, maxTokens };
}

/** Bytes that a request may come to hold. Lanes double, so a text may hold the place of two. */
export function footprint(batch: TextBatch, promptLength: number, added: number, texts: number): number {
  return 2 * texts * batch.footprint(promptLength, added);
}

/** @throws RequestError naming the field that is wrong, or that the model cannot serve. */
export function acceptTexts(
  parts: ServedParts,
  task: TextsTask,
  request: TextsRequest,
): { readonly checked: CheckedTexts; readonly texts: readonly (readonly number[])[] } {
  const { info } = parts;
  if (!info.tasks.includes(task)) {
    const what = task === 'classify' ? 'tell classes' : 'make vectors of texts';
    throw new RequestError('', `${info.name} is of kind ${info.kind}, which does not ${what}`);
  }
  const checked = checkRequest(textsSchema, request);
  const texts = checked.inputs.map((input, index) => encodeInput(parts, input, `inputs.${index}`));
  checkTotals(checked, texts, info.routedLayers);
  return { checked, texts };
}

function encodeInput(
  { reader, info }: ServedParts,
  input: string | readonly number[],
  field: string,
): readonly number[] {
  const ids = typeof input === 'string' ? encodeText(reader, input) : input;
  if (ids.length === 0) throw new RequestError(field, 'has no token');
  if (ids.length > info.contextLength)
    throw new RequestError(
      field,
      `has ${ids.length} tokens; the model takes at most ${info.contextLength}: shorten it`,
    );
  checkIds(reader, ids, field);
  return ids;
}
