import { describe, expect, test } from 'vitest';
import { ByteTokenizer } from '../data/index.js';
import { TextStream, type Decoder } from './text-stream.js';

const bytes = new ByteTokenizer();

/** Words with a leading space that the first of a text loses, as SentencePiece has it. */
const words: Decoder = {
  decode: (ids) =>
    Array.from(ids, (id) => ` ${['zero', 'one', 'two', 'three'][id]}`)
      .join('')
      .slice(1),
};

function told(stream: TextStream, ids: ArrayLike<number>): string[] {
  const pieces = Array.from(ids, (id) => stream.push(id));
  return [...pieces, stream.end()];
}

describe('pieces', () => {
  test('are whole characters, and together the text', () => {
    const text = 'aé€😀 ok';
    const pieces = told(new TextStream(bytes), bytes.encode(text));
    expect(pieces.join('')).toBe(text);
    expect(pieces.filter((piece) => piece !== '')).toEqual([...text]);
  });

  test('keep the space between a prompt and its continuation', () => {
    expect(told(new TextStream(words, [1, 2]), [3, 0])).toEqual([' three', ' zero', '']);
    expect(told(new TextStream(words), [3, 0])).toEqual(['three', ' zero', '']);
  });

  test('an unfinished character is told at the end, as what it is', () => {
    const half = bytes.encode('x€').slice(0, 3);
    expect(told(new TextStream(bytes), half)).toEqual(['x', '', '', '\uFFFD']);
  });

  test('a prompt of any length costs its last tokens only', () => {
    const prompt = bytes.encode('é'.repeat(500));
    expect(told(new TextStream(bytes, prompt), bytes.encode('ü!')).join('')).toBe('ü!');
  });
});

describe('stop strings', () => {
  const ending = (text: string, stops: readonly string[]): { pieces: string[]; stopped: boolean } => {
    const stream = new TextStream(bytes, [], stops);
    const pieces = told(stream, bytes.encode(text));
    return { pieces, stopped: stream.stopped };
  };

  test('end the text before them, and nothing of them is told before', () => {
    const { pieces, stopped } = ending('one, two; END three', ['END', 'never']);
    expect(pieces.join('')).toBe('one, two; ');
    expect(stopped).toBe(true);
  });

  test('what only looked like one is told as soon as it is known', () => {
    const { pieces, stopped } = ending('xENENx', ['END']);
    expect(pieces).toEqual(['x', '', '', 'EN', '', 'ENx', '']);
    expect(stopped).toBe(false);
  });

  test('what could have become one is told at the end', () => {
    expect(ending('fooEN', ['END']).pieces.join('')).toBe('fooEN');
  });

  test('the first in the text counts, not the first of the list', () => {
    expect(ending('a\nb###', ['###', '\n']).pieces.join('')).toBe('a');
  });

  test('an empty one is refused', () => {
    expect(() => new TextStream(bytes, [], [''])).toThrow('a stop string is empty');
  });
});
