import { expect, test } from 'vitest';
import { ByteTokenizer, CharacterTokenizer } from '../data/index.js';
import { characterClassOf, scriptOf } from './token-classes.js';
import { displayToken, tokenTexts } from './token-text.js';

const bytes = new ByteTokenizer({ specialTokens: true });

test('bytes of one character share its text', () => {
  const texts = tokenTexts(bytes, bytes.encode('né語😀'));
  expect(texts.map(displayToken)).toEqual([
    'n', 'é 1/2', 'é 2/2', '語 1/3', '語 2/3', '語 3/3', '😀 1/4', '😀 2/4', '😀 3/4', '😀 4/4',
  ]); // prettier-ignore
});

test('a sequence cut inside a character: the rest of the text is still read', () => {
  const ids = bytes.encode('語a語').slice(1, 6);
  expect(tokenTexts(bytes, ids).map(({ text }) => text)).toEqual([
    '\uFFFD',
    '\uFFFD',
    'a',
    '\uFFFD',
    '\uFFFD',
  ]);
});

test('white space and special tokens can be seen', () => {
  expect(tokenTexts(bytes, [32, 10, 9, 258, 1]).map(displayToken)).toEqual(['␣', '⏎', '⇥', '(special)', '�']);
});

test('one token a character', () => {
  const characters = CharacterTokenizer.of('aβ');
  expect(tokenTexts(characters, characters.encode('βa')).map(displayToken)).toEqual(['β', 'a']);
});

test.each([
  ['a', 'Latin', 'letter'],
  [' γεια', 'Greek', 'letter'],
  ['д', 'Cyrillic', 'letter'],
  ['ア', 'Katakana', 'letter'],
  ['漢', 'Han', 'letter'],
  ['7', 'Common', 'digit'],
  ['٪', 'Arabic', 'punctuation'],
  [' ', 'Common', 'space'],
  ['. a', 'Latin', 'punctuation'],
  ['€', 'Common', 'symbol'],
  ['\u093e', 'Devanagari', 'mark'],
  ['𐎀', 'Other', 'letter'],
  ['', 'Common', 'special'],
  ['\uFFFD', 'Common', 'other'],
  ['\u0007', 'Common', 'other'],
])('%j is %s, %s', (text, script, kind) => {
  expect([scriptOf(text), characterClassOf(text)]).toEqual([script, kind]);
});
