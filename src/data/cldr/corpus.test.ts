import { describe, expect, it } from 'vitest';
import { CldrCorpus } from './corpus.js';
import { cldrLanguages } from './languages.js';
import { contentOf } from './meaning.js';

describe('languages', () => {
  it('are 51 in 25 scripts, as CLDR itself says', () => {
    expect(cldrLanguages).toHaveLength(51);
    expect(new Set(cldrLanguages.map((language) => language.script)).size).toBe(25);
    const english = new Intl.DisplayNames('en', { type: 'language' });
    for (const { code, name, script } of cldrLanguages) {
      expect(new Intl.Locale(code).maximize().script, code).toBe(script);
      expect(english.of(code), code).toBe(name === 'Traditional Chinese' ? 'Traditional Chinese' : name);
    }
  });
  it('refuses an unknown code, a double and an empty list', () => {
    expect(() => new CldrCorpus({ seed: 1, languages: ['en', 'tlh'] })).toThrow(
      /does not speak "tlh"; it speaks en, de/,
    );
    expect(() => new CldrCorpus({ seed: 1, languages: ['en', 'en'] })).toThrow('"en" is named twice');
    expect(() => new CldrCorpus({ seed: 1, languages: [] })).toThrow('at least one language');
  });
});

describe('lines', () => {
  it('are a pure function of seed, split and index', () => {
    const first = new CldrCorpus({ seed: 7 });
    const again = new CldrCorpus({ seed: 7 });
    const indices = [4000, 3, 999_999_999_999, 0, 17];
    const lines = indices.map((index) => first.line('train', index));
    expect(indices.toReversed().map((index) => again.line('train', index))).toEqual(lines.toReversed());
    const other = new CldrCorpus({ seed: 8 });
    expect(
      indices.filter((index) => other.line('train', index).text === first.line('train', index).text),
    ).toEqual([]);
  });

  it('have the same validation set for every seed', () => {
    const [a, b] = [new CldrCorpus({ seed: 1 }), new CldrCorpus({ seed: 2 })];
    for (let index = 0; index < 200; index++)
      expect(a.line('validation', index)).toEqual(b.line('validation', index));
  });

  it('say the same in every language, in the script of each', () => {
    const corpus = new CldrCorpus({ seed: 3 });
    const letters = corpus.languages.map(() => 0);
    const own = corpus.languages.map(() => 0);
    const scripts = corpus.languages.map(({ script }) => {
      const names: Record<string, string> = {
        Jpan: 'Han}\\p{sc=Hira}\\p{sc=Kana',
        Kore: 'Hang',
        Hans: 'Han',
        Hant: 'Han',
      };
      return new RegExp(`[\\p{sc=${names[script] ?? script}}]`, 'gu');
    });
    for (let index = 0; index < 200; index++) {
      const { texts, meaning } = corpus.parallel('train', index);
      const line = corpus.line('train', index);
      expect(line.meaning).toEqual(meaning);
      expect(texts[line.language]).toBe(line.text);
      texts.forEach((text, language) => {
        letters[language] += text.match(/\p{L}/gu)?.length ?? 0;
        own[language] += text.replace(/[^\p{L}]/gu, '').match(scripts[language])?.length ?? 0;
      });
    }
    corpus.languages.forEach((language, index) =>
      expect(own[index] / letters[index], language.code).toBeGreaterThan(0.85),
    );
  });

  it('speak every validation meaning once in every language, neighbours of other meanings', () => {
    const corpus = new CldrCorpus({ seed: 1, languages: ['en', 'hi', 'th'], validationMeanings: 20 });
    expect(corpus.lineCount('validation')).toBe(60);
    const lines = Array.from({ length: 60 }, (_, index) => corpus.line('validation', index));
    expect(new Set(lines.map((line) => `${line.language} ${contentOf(line.meaning)}`)).size).toBe(60);
    for (let index = 1; index < 60; index++)
      expect(lines[index].meaning).not.toEqual(lines[index - 1].meaning);
    expect(() => corpus.line('validation', 60)).toThrow('lines are numbered 0 to 59');
  });

  it('share no sentence between training and validation, in any language (60,000 training lines)', () => {
    const corpus = new CldrCorpus({ seed: 11 });
    const texts = new Set<string>();
    const contents = new Set<string>();
    for (let index = 0; index < corpus.lineCount('validation'); index++) {
      const line = corpus.line('validation', index);
      texts.add(line.text);
      contents.add(contentOf(line.meaning));
    }
    expect(texts.size).toBeGreaterThan(25_000);
    const trained = new Set<string>();
    const perLanguage = corpus.languages.map(() => 0);
    for (let index = 0; index < 60_000; index++) {
      const line = corpus.line('train', index);
      if (texts.has(line.text) || contents.has(contentOf(line.meaning)))
        throw new Error(`line ${index} is in validation: ${line.text}`);
      trained.add(line.text);
      perLanguage[line.language]++;
    }
    // Worth modelling: hardly a line comes twice, and no language is starved.
    expect(trained.size).toBeGreaterThan(58_500);
    expect(Math.min(...perLanguage)).toBeGreaterThan(1000);
  });

  it('draws a training line again whose text equals a validation line', () => {
    // Different contents hardly ever render alike, so speak indistinctly to see the rule at work.
    class Mumbling extends CldrCorpus {
      override speak(...[meaning, language]: Parameters<CldrCorpus['speak']>): string {
        return super.speak(meaning, language).slice(0, 6);
      }
    }
    const corpus = new Mumbling({ seed: 1, languages: ['en', 'de'], validationMeanings: 200 });
    const heard = Array.from({ length: 400 }, (_, index) => corpus.line('validation', index).text);
    const unguarded = new CldrCorpus({ seed: 1, languages: ['en', 'de'] });
    let collisions = 0;
    for (let index = 0; index < 2000; index++) {
      if (heard.includes(unguarded.line('train', index).text.slice(0, 6))) collisions++;
      expect(heard).not.toContain(corpus.line('train', index).text);
      if (index < 200)
        for (const text of corpus.parallel('train', index).texts) expect(heard).not.toContain(text);
    }
    expect(collisions).toBeGreaterThan(100);
  });
});
