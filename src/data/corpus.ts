/**
 * What every corpus of lines offers.
 * @module
 */

/** The two parts of every corpus. They share no line. */
export type Split = 'train' | 'validation';

/** Lines of text by number; each has a language. */
export interface LineCorpus {
  /** The languages that {@link line} numbers. */
  readonly languages: readonly { readonly code: string; readonly name: string; readonly script: string }[];
  /** Lines of a split; `Infinity` for an endless one. */
  lineCount(split: Split): number;
  /** Line `index` of a split: a pure function of its arguments. */
  line(split: Split, index: number): { readonly text: string; readonly language: number };
}
