import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { readStopTokens } from './generation-config.js';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'generation-'));
});
afterEach(() => rmSync(folder, { recursive: true }));
const put = (text: string): void => writeFileSync(join(folder, 'generation_config.json'), text);

test('one id, several, or none', () => {
  expect(readStopTokens(folder)).toEqual([]);
  put('{"eos_token_id": 2, "temperature": 0.6}');
  expect(readStopTokens(folder)).toEqual([2]);
  put('{"eos_token_id": [128001, 128009]}');
  expect(readStopTokens(folder)).toEqual([128001, 128009]);
  put('{"eos_token_id": null}');
  expect(readStopTokens(folder)).toEqual([]);
});

test.each(['{"eos_token_id": "</s>"}', '{"eos_token_id": [-1]}', '{"eos_token_id": 1.5}'])(
  '%s is refused',
  (text) => {
    put(text);
    expect(() => readStopTokens(folder)).toThrow(
      /generation_config\.json: eos_token_id must be an id or a list/,
    );
  },
);

test('what is not JSON is refused', () => {
  put('{');
  expect(() => readStopTokens(folder)).toThrow(/generation_config\.json: not JSON: /);
});
