/**
 * The normalisers of a `tokenizer.json`, with the results of Hugging Face's Rust library.
 * @module
 */
import { z } from 'zod';
import { PrecompiledCharsmap } from './precompiled-charsmap.js';

/** Text to normalised text. */
export type Normalize = (text: string) => string;

const literal = <Type extends string>(type: Type): z.ZodObject<{ type: z.ZodLiteral<Type> }> =>
  z.object({ type: z.literal(type) });
const bertSchema = literal('BertNormalizer').extend({
  clean_text: z.boolean().default(true),
  handle_chinese_chars: z.boolean().default(true),
  strip_accents: z.boolean().nullish(),
  lowercase: z.boolean().default(true),
});
const normalizerSchema = z.discriminatedUnion('type', [
  literal('Sequence').extend({ normalizers: z.array(z.unknown()) }),
  literal('Precompiled').extend({ precompiled_charsmap: z.base64() }),
  literal('Replace').extend({
    pattern: z.union([z.object({ String: z.string() }), z.object({ Regex: z.string() })]),
    content: z.string(),
  }),
  literal('Prepend').extend({ prepend: z.string() }),
  literal('Lowercase'),
  literal('NFC'),
  literal('NFD'),
  literal('NFKC'),
  literal('NFKD'),
  bertSchema,
]);

/** Patterns of `Replace` that mean the same here as there; others are left to the library, which translates them. */
export const spacePatterns = {
  /** Spaces around the text. */
  around: String.raw`\A +| +\z`,
  /** Several spaces. */
  runs: ' {2,}',
} as const;
const knownPatterns = new Map<string, RegExp>([
  [spacePatterns.around, /^ +| +$/g],
  [spacePatterns.runs, / {2,}/g],
]);

/**
 * What a `normalizer` entry does to a text.
 *
 * @returns undefined for an entry that is not known here.
 * @throws RangeError if its character map is damaged.
 */
export function normalizerOf(json: unknown): Normalize | undefined {
  if (json === null || json === undefined) return (text) => text;
  const parsed = normalizerSchema.safeParse(json);
  if (!parsed.success) return undefined;
  const step = parsed.data;
  switch (step.type) {
    case 'Sequence': {
      const steps = step.normalizers.map(normalizerOf);
      if (!steps.every((each) => each !== undefined)) return undefined;
      return (text) => steps.reduce((sofar, each) => each(sofar), text);
    }
    case 'Precompiled': {
      const charsmap = new PrecompiledCharsmap(Buffer.from(step.precompiled_charsmap, 'base64'));
      return (text) => charsmap.normalize(text);
    }
    case 'Replace': {
      const { pattern, content } = step;
      if ('String' in pattern) return (text) => text.replaceAll(pattern.String, () => content);
      const known = knownPatterns.get(pattern.Regex);
      return known && ((text) => text.replace(known, () => content));
    }
    case 'Prepend':
      return (text) => (text === '' ? '' : step.prepend + text);
    case 'Lowercase':
      return lowercase;
    case 'BertNormalizer':
      return bertNormalizer(step);
    default:
      return (text) => text.normalize(step.type);
  }
}

/** Character by character: no final sigma, which `toLowerCase` of a whole text would make. */
function lowercase(text: string): string {
  return text.includes('Σ')
    ? Array.from(text, (character) => character.toLowerCase()).join('')
    : text.toLowerCase();
}

/** Blocks that BERT sets between spaces, one token a character. */
const cjk =
  /[\u4E00-\u9FFF\u3400-\u4DBF\uF900-\uFAFF\u{20000}-\u{2A6DF}\u{2A700}-\u{2B73F}\u{2B740}-\u{2B81F}\u{2B920}-\u{2CEAF}\u{2F800}-\u{2FA1F}]/gu;

function bertNormalizer(options: z.output<typeof bertSchema>): Normalize {
  const stripsAccents = options.strip_accents ?? options.lowercase;
  return (text) => {
    if (options.clean_text) {
      text = text.replace(/[\0\uFFFD]|(?![\t\n\r])\p{C}/gu, '').replace(/\p{White_Space}/gu, ' ');
    }
    if (options.handle_chinese_chars) text = text.replace(cjk, ' $& ');
    if (stripsAccents) text = text.normalize('NFD').replace(/\p{Mn}/gu, '');
    return options.lowercase ? lowercase(text) : text;
  };
}
