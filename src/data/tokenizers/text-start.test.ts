import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ByteTokenizer } from './byte-tokenizer.js';
import { textStart } from './text-start.js';
import type { Tokenizer } from './tokenizer.js';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'start-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const template = {
  type: 'TemplateProcessing',
  single: [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
  special_tokens: { '<s>': { id: '<s>', ids: [7], tokens: ['<s>'] } },
};
const behind = { ...template, single: [...template.single].reverse() };
const plain = new ByteTokenizer();
const withProcessor = (processor: unknown): Tokenizer =>
  Object.assign(Object.create(plain) as Tokenizer, {
    special: { bos: 3 },
    toFile: () => ({ ...plain.toFile(), post_processor: processor }),
  });

test.each<[string, unknown, number[]]>([
  ['no processor', null, []],
  ['a template', template, [7]],
  ['a template that ends texts', behind, []],
  ['a template in a sequence', { type: 'Sequence', processors: [{ type: 'ByteLevel' }, template] }, [7]],
  ['another processor', { type: 'ByteLevel' }, []],
])('%s', (_, processor, expected) => {
  expect(textStart(folder, withProcessor(processor))).toEqual(expected);
});

test('tokenizer_config.json comes first', () => {
  const file = join(folder, 'tokenizer_config.json');
  writeFileSync(file, JSON.stringify({ add_bos_token: true }));
  expect(textStart(folder, withProcessor(template))).toEqual([3]);
  writeFileSync(file, JSON.stringify({ add_bos_token: false }));
  expect(textStart(folder, withProcessor(template))).toEqual([]);
  writeFileSync(file, JSON.stringify({ add_bos_token: null }));
  expect(textStart(folder, withProcessor(template))).toEqual([7]);
  writeFileSync(file, JSON.stringify({ add_bos_token: 'yes' }));
  expect(() => textStart(folder, withProcessor(template))).toThrow(/tokenizer_config\.json: add_bos_token: /);
});
