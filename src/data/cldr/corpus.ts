/**
 * The built-in corpus: endless parallel text in fifty languages, spoken by the CLDR data that Node carries.
 * @module
 */
import { RandomStream, streamKey, uniformAt } from '../../nn/random.js';
import type { LineCorpus, Split } from '../corpus.js';
import { cldrLanguages, languagesOf, localeOf, type Language } from './languages.js';
import { contentOf, drawMeaning, type Meaning } from './meaning.js';
import { Speaker } from './speaker.js';

/** One line of the built-in corpus. */
export interface CldrLine {
  readonly text: string;
  /** Index into {@link CldrCorpus.languages}. */
  readonly language: number;
  readonly meaning: Meaning;
}

/** Options of {@link CldrCorpus}. */
export interface CldrCorpusOptions {
  /** Seed of the training lines. The validation lines are the same for every seed, so that runs can be compared. */
  readonly seed: number;
  /** BCP 47 codes; default all of `cldrLanguages`. Their order numbers the languages. */
  readonly languages?: readonly string[];
  /** Sentences of the validation set, each spoken in every language; default 512. */
  readonly validationMeanings?: number;
}

/** One meaning in so many is kept for validation. */
const validationShare = 16;

/**
 * Lines of text drawn at random, one meaning spoken in every language.
 *
 * Every line is a pure function of (seed, split, index) and of the CLDR version, so a reader's position is one number.
 * The two splits share nothing: a hash of its content sends each meaning to one of them for every seed and language,
 * and a training line whose *text* equals any validation line in any language of the corpus (two contents may render
 * alike) is drawn again.
 *
 * @example
 * const corpus = new CldrCorpus({ seed: 1, languages: ['en', 'ja', 'ar'] });
 * corpus.line('train', 0); // { text: 'Iceland → Malta: 2,870 kilometers, …', language: 0, meaning }
 * corpus.parallel('train', 0); // the same meaning in English, Japanese and Arabic
 */
export class CldrCorpus implements LineCorpus {
  readonly languages: readonly Language[];
  readonly seed: number;
  /** Sentences of the validation set. */
  readonly validationMeanings: number;
  readonly #speakers: readonly Speaker[];
  readonly #languageKey: number;
  #validationTexts: Set<string> | undefined;

  /** @throws RangeError for an unknown language, or one that this Node has no data for. */
  constructor(options: CldrCorpusOptions) {
    this.languages = options.languages ? languagesOf(options.languages) : cldrLanguages;
    this.seed = options.seed;
    this.validationMeanings = options.validationMeanings ?? 512;
    if (!(Number.isSafeInteger(this.validationMeanings) && this.validationMeanings > 0)) {
      throw new RangeError(`validationMeanings must be a positive integer, not ${this.validationMeanings}`);
    }
    this.#speakers = this.languages.map((language) => new Speaker(localeOf(language)));
    this.#languageKey = streamKey(options.seed, 'cldr', 'train', 'language');
  }

  /** Lines of a split: training is endless; validation speaks each of its meanings once in every language. */
  lineCount(split: Split): number {
    return split === 'train' ? Infinity : this.validationMeanings * this.languages.length;
  }

  /**
   * Line `index` of a split, in one language. Neighbouring lines have different meanings.
   * @throws RangeError if `index` is not in 0 … `lineCount(split)` − 1.
   */
  line(split: Split, index: number): CldrLine {
    this.#checkIndex(index, this.lineCount(split));
    if (split === 'validation') {
      // Each round speaks every meaning once, shifted by one language from the round before.
      const round = Math.floor(index / this.validationMeanings);
      const sentence = index % this.validationMeanings;
      const meaning = this.#draw('validation', sentence, 0);
      const language = (sentence + round) % this.languages.length;
      return { text: this.speak(meaning, language), language, meaning };
    }
    const language = Math.floor(uniformAt(this.#languageKey, index) * this.languages.length);
    const taken = this.#takenTexts();
    for (let attempt = 0; ; attempt++) {
      const meaning = this.#draw('train', index, attempt);
      const text = this.speak(meaning, language);
      if (!taken.has(text)) return { text, language, meaning };
    }
  }

  /**
   * Sentence `index` of a split in every language, in the order of {@link languages}. The texts of `line('train', i)`
   * and of `parallel('train', i)` are of one meaning.
   * @throws RangeError if `index` is not in the split; validation has {@link validationMeanings} sentences.
   */
  parallel(split: Split, index: number): { readonly meaning: Meaning; readonly texts: readonly string[] } {
    this.#checkIndex(index, split === 'train' ? Infinity : this.validationMeanings);
    const taken = split === 'train' ? this.#takenTexts() : undefined;
    for (let attempt = 0; ; attempt++) {
      const meaning = this.#draw(split, index, attempt);
      const texts = this.languages.map((_, language) => this.speak(meaning, language));
      if (!taken || !texts.some((text) => taken.has(text))) return { meaning, texts };
    }
  }

  /** Speaks any meaning in one language. */
  speak(meaning: Meaning, language: number): string {
    return this.#speakers[language].sentence(meaning.pieces);
  }

  /** Versions of the data that decide the text, for the record of a run. */
  get provenance(): string {
    return `CLDR ${process.versions['cldr'] ?? 'unknown'}, ICU ${process.versions['icu'] ?? 'unknown'}`;
  }

  #draw(split: Split, index: number, attempt: number): Meaning {
    const seed = split === 'train' ? this.seed : 0;
    for (let redraw = 0; ; redraw++) {
      const meaning = drawMeaning(new RandomStream(streamKey(seed, 'cldr', split, index, attempt, redraw)));
      const isValidation = streamKey('split', contentOf(meaning)) % validationShare === 0;
      if (isValidation === (split === 'validation')) return meaning;
    }
  }

  #takenTexts(): Set<string> {
    if (!this.#validationTexts) {
      this.#validationTexts = new Set();
      for (let index = 0; index < this.validationMeanings; index++) {
        const meaning = this.#draw('validation', index, 0);
        for (let language = 0; language < this.languages.length; language++) {
          this.#validationTexts.add(this.speak(meaning, language));
        }
      }
    }
    return this.#validationTexts;
  }

  #checkIndex(index: number, count: number): void {
    if (!(Number.isSafeInteger(index) && index >= 0 && index < count)) {
      throw new RangeError(`line ${index} is outside the corpus: lines are numbered 0 to ${count - 1}`);
    }
  }
}
