/**
 * The languages that the built-in corpus can speak.
 * @module
 */

/** One language of a corpus. */
export interface Language {
  /** BCP 47 code as it is written in recipes, such as `pt` or `zh-Hant`. */
  readonly code: string;
  /** English name. */
  readonly name: string;
  /** ISO 15924 code of the script the language is written in, such as `Latn` or `Ethi`. */
  readonly script: string;
}

const latin =
  'English:en German:de French:fr Spanish:es Italian:it Portuguese:pt Dutch:nl Swedish:sv Danish:da Finnish:fi ' +
  'Estonian:et Icelandic:is Polish:pl Czech:cs Hungarian:hu Romanian:ro Turkish:tr Vietnamese:vi Indonesian:id Swahili:sw';
const others =
  'Russian:ru:Cyrl Ukrainian:uk:Cyrl Bulgarian:bg:Cyrl Kazakh:kk:Cyrl Greek:el:Grek Hebrew:he:Hebr Arabic:ar:Arab ' +
  'Persian:fa:Arab Urdu:ur:Arab Hindi:hi:Deva Marathi:mr:Deva Nepali:ne:Deva Bangla:bn:Beng Punjabi:pa:Guru ' +
  'Gujarati:gu:Gujr Tamil:ta:Taml Telugu:te:Telu Kannada:kn:Knda Malayalam:ml:Mlym Sinhala:si:Sinh Thai:th:Thai ' +
  'Lao:lo:Laoo Khmer:km:Khmr Burmese:my:Mymr Georgian:ka:Geor Armenian:hy:Armn Amharic:am:Ethi Japanese:ja:Jpan ' +
  'Korean:ko:Kore Chinese:zh:Hans Traditional_Chinese:zh-Hant:Hant';

/** Every language of the built-in corpus: 51 languages in 25 scripts. */
export const cldrLanguages: readonly Language[] = `${latin} ${others}`.split(' ').map((entry) => {
  const [name, code, script = 'Latn'] = entry.split(':') as [string, string, string?];
  return { code, name: name.replace('_', ' '), script };
});

/**
 * The locale whose formatters speak a language. Arabic is spoken as in Egypt and Chinese of Taiwan in its own
 * script, because plain `ar` writes Latin digits and the corpus is the richer for other digits.
 */
export function localeOf(language: Language): string {
  return language.code === 'ar' ? 'ar-EG' : language.code === 'mr' ? 'mr-IN' : language.code;
}

/**
 * Finds languages by their codes.
 * @throws RangeError that names the unknown code and lists the known ones; also for a code given twice or none at all.
 */
export function languagesOf(codes: readonly string[]): readonly Language[] {
  if (codes.length === 0) throw new RangeError('languages: name at least one language, such as ["en", "de"]');
  return codes.map((code, index) => {
    if (codes.indexOf(code) !== index) throw new RangeError(`languages: "${code}" is named twice`);
    const language = cldrLanguages.find((candidate) => candidate.code === code);
    if (language) return language;
    const known = cldrLanguages.map((candidate) => candidate.code).join(', ');
    throw new RangeError(`languages: the corpus does not speak "${code}"; it speaks ${known}`);
  });
}
