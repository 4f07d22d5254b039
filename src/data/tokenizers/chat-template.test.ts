import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ChatTemplate, type ChatMessage } from './chat-template.js';

/** What transformers made of the same conversations: test/golden/make-chat-templates.py. */
interface Golden {
  readonly tokens: Readonly<Record<string, string>>;
  readonly templates: Readonly<Record<string, string>>;
  readonly conversations: Readonly<Record<string, readonly ChatMessage[]>>;
  readonly cases: readonly {
    readonly template: string;
    readonly conversation: string;
    readonly addGenerationPrompt: boolean;
    readonly variables: Readonly<Record<string, unknown>>;
    readonly text?: string;
    readonly error?: string;
  }[];
}
const golden = JSON.parse(
  readFileSync(new URL('../../../test/golden/chat-templates.json', import.meta.url), 'utf8'),
) as Golden;

describe('the same text as transformers', () => {
  test.each(golden.cases)('$template, $conversation, $addGenerationPrompt', (one) => {
    const template = new ChatTemplate(golden.templates[one.template], golden.tokens);
    const render = (): string => template.render(golden.conversations[one.conversation], one);
    if (one.error === undefined) expect(render()).toBe(one.text);
    else expect(render).toThrow(new Error(`the chat template refuses these messages: ${one.error}`));
  });
});

describe('a model folder', () => {
  let folder: string;
  const put = (name: string, content: unknown): void =>
    writeFileSync(join(folder, name), typeof content === 'string' ? content : JSON.stringify(content));
  const hello: readonly ChatMessage[] = [{ role: 'user', content: 'hello' }];

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'chat-'));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  test('has its template in tokenizer_config.json, with its special tokens', () => {
    put('tokenizer_config.json', {
      chat_template: '{{ bos_token }}{{ messages[0].content }}{{ eos_token }}',
      bos_token: '<s>',
      eos_token: { content: '</s>', special: true },
      add_bos_token: true,
    });
    expect(ChatTemplate.open(folder).render(hello)).toBe('<s>hello</s>');
  });

  test('or in a file of its own, which comes first', () => {
    put('tokenizer_config.json', { chat_template: 'old', bos_token: '[B]' });
    put('chat_template.jinja', '{{ bos_token }}new: {{ messages[0].content }}');
    expect(ChatTemplate.open(folder).render(hello)).toBe('[B]new: hello');
  });

  test('or several, of which the default is taken', () => {
    const named = [
      { name: 'tool_use', template: 'tools' },
      { name: 'default', template: 'plain' },
    ];
    put('tokenizer_config.json', { chat_template: named });
    expect(ChatTemplate.open(folder).render(hello)).toBe('plain');
    put('tokenizer_config.json', { chat_template: named.slice(0, 1) });
    expect(() => ChatTemplate.open(folder)).toThrow('it has tool_use, but none is called default');
  });

  test('without one: a line that says where it would be', () => {
    expect(() => ChatTemplate.open(folder)).toThrow(
      `${folder}: the model has no chat template, neither chat_template.jinja nor chat_template in tokenizer_config.json`,
    );
  });

  test('what is not a template or not JSON is named', () => {
    put('chat_template.jinja', '{% for x in %}');
    expect(() => ChatTemplate.open(folder)).toThrow(/chat_template\.jinja: not a Jinja template: /);
    put('tokenizer_config.json', '{');
    expect(() => ChatTemplate.open(folder)).toThrow(/tokenizer_config\.json is not JSON: /);
    put('tokenizer_config.json', { chat_template: 3 });
    expect(() => ChatTemplate.open(folder)).toThrow(/tokenizer_config\.json: chat_template: /);
  });
});

describe('messages', () => {
  const template = new ChatTemplate('{{ messages | length }}');
  test.each<[unknown, string]>([
    [[], 'messages: there is no message'],
    [[{ role: 'user' }], 'messages.0.content: Invalid input'],
    [
      [{ role: 'robot', content: '' }],
      'messages.0.role: Invalid option: expected one of "system"|"developer"',
    ],
    [[{ role: 'user', content: 'a', name: 'x' }], 'messages.0: Unrecognized key: "name"'],
  ])('%o is refused', (messages, reason) => {
    expect(() => template.render(messages as readonly ChatMessage[])).toThrow(reason);
  });

  test('are text, whatever they contain', () => {
    const echo = new ChatTemplate('{{ messages[0].content }}');
    const content = '{{ 1 + 1 }}{% raw %}<|im_end|>';
    expect(echo.render([{ role: 'user', content }])).toBe(content);
  });
});
