import { describe, expect, it } from 'vitest';
import { spelling, tokenProbabilities } from './probabilities.js';

/** As SentencePiece: words have their space in front, which the first one of a text loses. */
const words = ['', '▁once', '▁upon', 'ly', '<c3>', '<a9>'];
const tokenizer = {
  decode(ids: ArrayLike<number>): string {
    const text = Array.from(ids, (id) => words[id]).join('');
    return text
      .replace(/<c3><a9>/g, 'é')
      .replace(/<..>/g, '\uFFFD')
      .replaceAll('▁', ' ')
      .replace(/^ /, '');
  },
};

describe('what a token spells', () => {
  it('has the space of a word after another one, and none at the beginning', () => {
    expect(spelling(tokenizer, 1, undefined)).toBe('once');
    expect(spelling(tokenizer, 2, 1)).toBe(' upon');
    expect(spelling(tokenizer, 3, 2)).toBe('ly');
  });

  it('has none after a token that spells nothing, which begins the text', () => {
    expect(spelling(tokenizer, 1, 0)).toBe('once');
  });

  it('is U+FFFD for each part of a character', () => {
    expect(spelling(tokenizer, 4, 1)).toBe('\uFFFD');
    expect(spelling(tokenizer, 5, 4)).toBe('\uFFFD');
  });
});

describe('the most probable tokens', () => {
  it('are spelt in their place, best first', () => {
    const { text, bytes, top } = tokenProbabilities(tokenizer, Float32Array.of(0, 1, 3, 2, 0, 0), 2, 2, 1);
    expect(text).toBe(' upon');
    expect(bytes).toEqual([...Buffer.from(' upon')]);
    expect(top.map((token) => token.text)).toEqual([' upon', 'ly']);
  });

  it('are never told as −∞, which JSON has not', () => {
    const scores = Float32Array.of(-Infinity, 1, -3e38, 0, 0, 0);
    const { logProbability, top } = tokenProbabilities(tokenizer, scores, 0, 6, 1);
    expect(logProbability).toBe(-9999);
    expect(top.slice(4).map((token) => token.logProbability)).toEqual([-9999, -9999]);
  });

  it.each([NaN, Infinity])('are not told where a score is %d', (score) => {
    const scores = Float32Array.of(0, 1, score, 0, 0, 0);
    expect(() => tokenProbabilities(tokenizer, scores, 1, 2, 1)).toThrow(RangeError);
  });
});
