/**
 * Classes of tokens by what is written: script and kind of character.
 * @module
 */

/** Scripts that are told apart, by their Unicode names. All others are `Other`. */
const scripts = [
  'Latin', 'Cyrillic', 'Greek', 'Arabic', 'Hebrew', 'Devanagari', 'Bengali', 'Gurmukhi', 'Gujarati', 'Oriya', 'Tamil',
  'Telugu', 'Kannada', 'Malayalam', 'Sinhala', 'Thai', 'Lao', 'Tibetan', 'Myanmar', 'Khmer', 'Mongolian', 'Georgian',
  'Armenian', 'Ethiopic', 'Cherokee', 'Han', 'Hiragana', 'Katakana', 'Bopomofo', 'Hangul',
] as const; // prettier-ignore

const scriptTests = scripts.map((name) => ({ name, test: new RegExp(`\\p{Script=${name}}`, 'u') }));

/** Kinds of characters in the order in which they are tried. */
const characterTests = [
  { name: 'letter', test: /^\p{L}/u },
  { name: 'mark', test: /^\p{M}/u },
  { name: 'digit', test: /^\p{N}/u },
  { name: 'punctuation', test: /^\p{P}/u },
  { name: 'symbol', test: /^\p{S}/u },
] as const;

/** Names of all that {@link scriptOf} may return; `Common` is what every script shares, such as digits. */
export const scriptClasses: readonly string[] = [...scripts, 'Common', 'Other'];

/** Names of all that {@link characterClassOf} may return. */
export const characterClasses: readonly string[] = [
  ...characterTests.map(({ name }) => name),
  'space',
  'special',
  'other',
];

/**
 * Unicode script of a text: that of its first character that belongs to one.
 * @example
 * scriptOf(' γεια'); // 'Greek'
 */
export function scriptOf(text: string): string {
  for (const character of text) {
    if (/[\p{Script=Common}\p{Script=Inherited}]/u.test(character)) continue;
    return scriptTests.find(({ test }) => test.test(character))?.name ?? 'Other';
  }
  return 'Common';
}

/**
 * Kind of the first character of a text that is no white space. A text of nothing but white space is `space`, an empty
 * one `special`, and one that is no text (U+FFFD) `other`.
 */
export function characterClassOf(text: string): string {
  if (text === '') return 'special';
  const trimmed = text.trimStart();
  if (trimmed === '') return 'space';
  if (trimmed.startsWith('\uFFFD')) return 'other';
  return characterTests.find(({ test }) => test.test(trimmed))?.name ?? 'other';
}
