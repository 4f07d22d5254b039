/**
 * Chat templates: how the messages of a conversation become the text that a model continues.
 * @module
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Template } from '@huggingface/jinja';
import { z } from 'zod';

/** Who speaks. */
export const chatRoles = ['system', 'developer', 'user', 'assistant', 'tool'] as const;

/** One message of a conversation. */
export interface ChatMessage {
  readonly role: (typeof chatRoles)[number];
  readonly content: string;
}

const messagesSchema = z
  .array(z.strictObject({ role: z.enum(chatRoles), content: z.string() }))
  .min(1, 'there is no message');

/** Special tokens by the names that templates know them by, such as `bos_token`. */
export type TemplateTokens = Readonly<Record<string, string>>;

const tokenSchema = z.union([z.string(), z.looseObject({ content: z.string() })]);
const configSchema = z.looseObject({
  chat_template: z
    .union([z.string(), z.array(z.looseObject({ name: z.string(), template: z.string() }))])
    .nullish(),
});

/** Settings of {@link ChatTemplate.render}. */
export interface RenderOptions {
  /** Whether the text ends where the assistant's answer begins; true when absent. */
  readonly addGenerationPrompt?: boolean;
  /** More variables for the template, such as `enable_thinking`. */
  readonly variables?: Readonly<Record<string, unknown>>;
}

/**
 * A Jinja template of Hugging Face's tokenizers, run by `@huggingface/jinja`: the same text as from transformers, except
 * that `length` counts a character beyond U+FFFF as two.
 *
 * @example
 * const template = ChatTemplate.open('models/my-chat-model');
 * const text = template.render([{ role: 'user', content: 'Hello' }]);
 * const prompt = tokenizer.encode(text);
 */
export class ChatTemplate {
  private readonly template: Template;

  /**
   * @param source the template
   * @param tokens special tokens that it may use
   * @param where its file, for messages
   * @throws Error if it is no template.
   */
  constructor(
    source: string,
    private readonly tokens: TemplateTokens = {},
    private readonly where = 'the chat template',
  ) {
    try {
      this.template = new Template(source);
    } catch (error) {
      throw new Error(`${where}: not a Jinja template: ${messageOf(error)}`, { cause: error });
    }
  }

  /**
   * The template of a model folder: `chat_template.jinja`; or `chat_template` in `tokenizer_config.json`, where of several
   * named ones `default` is taken.
   * @throws Error if there is none, or a file is not what it should be.
   */
  static open(folder: string): ChatTemplate {
    const found = ChatTemplate.find(folder);
    if (found instanceof ChatTemplate) return found;
    const why = found.length === 0 ? '' : `; it has ${found.join(', ')}, but none is called default`;
    throw new Error(
      `${folder}: the model has no chat template, neither chat_template.jinja nor chat_template in tokenizer_config.json${why}`,
    );
  }

  /** As {@link open}, but undefined if there is none. */
  static openIfAny(folder: string): ChatTemplate | undefined {
    const found = ChatTemplate.find(folder);
    return found instanceof ChatTemplate ? found : undefined;
  }

  /** The template of a folder, or names of those that it has instead. */
  private static find(folder: string): ChatTemplate | readonly string[] {
    const configFile = join(folder, 'tokenizer_config.json');
    const config = existsSync(configFile) ? readConfig(configFile) : {};
    const tokens = templateTokens(config);
    const file = join(folder, 'chat_template.jinja');
    if (existsSync(file)) return new ChatTemplate(readFileSync(file, 'utf8'), tokens, file);
    const { chat_template: given } = config;
    const source = Array.isArray(given) ? given.find(({ name }) => name === 'default')?.template : given;
    if (source == null) return Array.isArray(given) ? given.map(({ name }) => name) : [];
    return new ChatTemplate(source, tokens, configFile);
  }

  /**
   * The text of a conversation. Special tokens stand in it as text, which the model's tokenizer reads as tokens.
   * @throws Error if a message is not one, or the template refuses the conversation; the message says why.
   */
  render(
    messages: readonly ChatMessage[],
    { addGenerationPrompt = true, variables }: RenderOptions = {},
  ): string {
    const parsed = messagesSchema.safeParse(messages);
    if (!parsed.success) {
      const [{ path, message }] = parsed.error.issues;
      throw new Error(`${['messages', ...path].join('.')}: ${message}`);
    }
    try {
      return this.template.render({
        ...this.tokens,
        ...variables,
        messages: parsed.data,
        add_generation_prompt: addGenerationPrompt,
      });
    } catch (error) {
      throw new Error(`${this.where} refuses these messages: ${messageOf(error)}`, { cause: error });
    }
  }
}

function readConfig(file: string): z.output<typeof configSchema> {
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    throw new Error(`${file} is not JSON: ${messageOf(error)}`, { cause: error });
  }
  const parsed = configSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [{ path, message }] = parsed.error.issues;
  throw new Error(`${file}: ${path.join('.')}: ${message}`);
}

/** Everything called `…_token` that names one. */
function templateTokens(config: Readonly<Record<string, unknown>>): TemplateTokens {
  return Object.fromEntries(
    Object.entries(config).flatMap(([key, value]) => {
      const token = key.endsWith('_token') ? tokenSchema.safeParse(value) : undefined;
      if (!token?.success) return [];
      return [[key, typeof token.data === 'string' ? token.data : token.data.content]];
    }),
  );
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
