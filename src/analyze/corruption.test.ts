import { expect, test } from 'vitest';
import { ByteTokenizer } from '../data/index.js';
import { corruptText, matchTokens } from './corruption.js';

const bytes = new ByteTokenizer();
const text = 'Der schnelle 日本語 fox jumps\nover  the lazy dog. '.repeat(40);

test('the same seed corrupts the same words; the rate is kept', () => {
  const words = text.split(/\s+/u).filter(Boolean).length;
  const { edits, text: corrupted } = corruptText(text, 'wordSwap', 0.25, 7);
  expect(corruptText(text, 'wordSwap', 0.25, 7)).toEqual({ edits, text: corrupted });
  expect(corruptText(text, 'wordSwap', 0.25, 8).text).not.toBe(corrupted);
  expect(edits.length / words).toBeGreaterThan(0.17);
  expect(edits.length / words).toBeLessThan(0.33);
  expect(corrupted.split('AAA')).toHaveLength(edits.length + 1);
  expect(corruptText(text, 'wordSwap', 0, 7)).toEqual({ text, edits: [] });
});

test('swapped characters keep the length, the letters and the white space', () => {
  const { edits, text: corrupted } = corruptText(text, 'characterSwap', 1, 7);
  expect(corrupted.length).toBe(text.length);
  expect(corrupted.replace(/\S/gu, 'x')).toBe(text.replace(/\S/gu, 'x'));
  expect([...corrupted].sort()).toEqual([...text].sort());
  expect(edits.length).toBeGreaterThan(0);
  expect(edits.every(({ removed, added }) => removed === added)).toBe(true);
});

test('tokens outside edits find their twins where the edits moved them', () => {
  const { edits, text: corrupted } = corruptText('one two three four', 'wordSwap', 1, 1);
  expect(corrupted).toBe('AAA AAA AAA AAA');
  const [clean, changed] = [bytes.encode('one two three four'), bytes.encode(corrupted)];
  // Only the spaces are left: bytes 3, 7, 13 of the clean text are 3, 7, 11 of the other.
  expect(matchTokens(bytes, clean, changed, edits)).toEqual([
    { clean: 3, corrupted: 3, editsBefore: 1 },
    { clean: 7, corrupted: 7, editsBefore: 2 },
    { clean: 13, corrupted: 11, editsBefore: 3 },
  ]);
});

test('every pair says the same, and nothing outside edits is lost', () => {
  const { edits, text: corrupted } = corruptText(text, 'wordSwap', 0.2, 3);
  const [clean, changed] = [bytes.encode(text), bytes.encode(corrupted)];
  const matched = matchTokens(bytes, clean, changed, edits);
  expect(matched.every((pair) => clean[pair.clean] === changed[pair.corrupted])).toBe(true);
  expect(matched).toHaveLength(clean.length - edits.reduce((sum, { removed }) => sum + removed, 0));
});

test('a token that another tokenizer cut across an edit has no twin', () => {
  const pairs = { byteLength: (ids: ArrayLike<number>) => 2 * ids.length };
  // Clean aa bb cc, corrupted aa b BB cc: byte 3 was replaced by three.
  expect(matchTokens(pairs, [1, 2, 3], [1, 9, 9, 3], [{ start: 3, removed: 1, added: 3 }])).toEqual([
    { clean: 0, corrupted: 0, editsBefore: 0 },
    { clean: 2, corrupted: 3, editsBefore: 1 },
  ]);
});
