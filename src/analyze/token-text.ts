/**
 * What each token of a sequence says, also where a character is spread over several tokens.
 * @module
 */
import type { Tokenizer } from '../data/index.js';

/** The text that a token is a part of. */
export interface TokenText {
  /** Text of the smallest group of neighbouring tokens that spells whole characters; empty for special tokens. */
  readonly text: string;
  /** Which token of the group this is, from 0. */
  readonly part: number;
  /** Tokens in the group. */
  readonly parts: number;
}

/** The longest character in UTF-8, which a byte tokenizer spreads over as many tokens. */
const LONGEST_GROUP = 4;

/**
 * Texts of consecutive tokens. A token that no group completes (a sequence that is cut inside a character) is U+FFFD.
 *
 * @param ids `[tokens]`
 * @example
 * tokenTexts(new ByteTokenizer(), [110, 195, 169]); // 'n', then 'é' in two parts
 */
export function tokenTexts(tokenizer: Pick<Tokenizer, 'decode'>, ids: ArrayLike<number>): TokenText[] {
  const texts: TokenText[] = [];
  for (let start = 0; start < ids.length;) {
    let parts = 1;
    let text = '\uFFFD';
    for (let length = 1; length <= LONGEST_GROUP && start + length <= ids.length; length++) {
      const group = tokenizer.decode(Array.from({ length }, (_, i) => ids[start + i]));
      if (group.includes('\uFFFD')) continue;
      [text, parts] = [group, length];
      break;
    }
    for (let part = 0; part < parts; part++) texts.push({ text, part, parts });
    start += parts;
  }
  return texts;
}

/** A token's text for people: visible white space, and which part of a spread character it is. */
export function displayToken({ text, part, parts }: TokenText): string {
  const visible = text
    .replaceAll('\n', '⏎')
    .replaceAll('\t', '⇥')
    .replaceAll(' ', '␣')

    .replaceAll(/[\u0000-\u001f\u007f-\u009f]/g, '�');
  const whole = visible === '' ? '(special)' : visible;
  return parts === 1 ? whole : `${whole} ${part + 1}/${parts}`;
}
