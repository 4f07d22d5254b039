/**
 * Ids of prompts, as the model was trained to read them.
 * @module
 */
import type { ChatTemplate, Tokenizer } from '../../data/index.js';
import type { Prompt } from '../engine-client.js';
import { RequestError } from '../engine-errors.js';

/** What turns prompts into ids. */
export interface PromptReader {
  readonly tokenizer: Tokenizer;
  /** Ids before those of a text. */
  readonly start: readonly number[];
  /** The id that ends a source, where prompts are sources. */
  readonly end: number | undefined;
  readonly chatTemplate: ChatTemplate | undefined;
}

/** Ids of a text. */
export function encodeText({ tokenizer, start, end }: PromptReader, text: string): number[] {
  const ids = [...start, ...tokenizer.encode(text)];
  return end === undefined || ids.at(-1) === end ? ids : [...ids, end];
}

/**
 * Ids of a prompt. Ids that are given are taken as they are.
 * @throws RequestError if it has none, an id is none of the tokenizer's, or the model takes no conversations.
 */
export function encodePrompt(reader: PromptReader, prompt: Prompt): readonly number[] {
  const ids =
    'messages' in prompt ? encodeConversation(reader, prompt.messages) : encodeInput(reader, prompt);
  if (ids.length === 0)
    throw new RequestError('prompt', 'has no token: give at least one character to continue');
  checkIds(reader, ids, 'prompt.ids');
  return ids;
}

/** @throws RequestError naming the place of an id that is none of the tokenizer's. */
export function checkIds({ tokenizer }: PromptReader, ids: readonly number[], field: string): void {
  const at = ids.findIndex((id) => id >= tokenizer.vocabSize);
  if (at >= 0)
    throw new RequestError(`${field}.${at}`, `${ids[at]} is no token; ids are below ${tokenizer.vocabSize}`);
}

function encodeInput(
  reader: PromptReader,
  prompt: Exclude<Prompt, { messages: unknown }>,
): readonly number[] {
  return 'ids' in prompt ? prompt.ids : encodeText(reader, prompt.text);
}

function encodeConversation(
  { chatTemplate, tokenizer, end }: PromptReader,
  messages: Extract<Prompt, { messages: unknown }>['messages'],
): number[] {
  if (!chatTemplate)
    throw new RequestError('prompt.messages', 'the model has no chat template: send a text instead');
  let text: string;
  try {
    text = chatTemplate.render(messages);
  } catch (error) {
    throw new RequestError('prompt.messages', (error as Error).message);
  }
  const ids = [...tokenizer.encode(text)];
  return end === undefined || ids.at(-1) === end ? ids : [...ids, end];
}
