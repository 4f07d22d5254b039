/**
 * The pre-tokenisers of a `tokenizer.json` that cut text into words, with the results of Hugging Face's Rust library.
 * @module
 */
import { z } from 'zod';

/** Cuts normalised text into words. `isFirst` where the piece begins the whole text. */
export type CutWords = (text: string, isFirst: boolean) => readonly string[];

const metaspaceSchema = z.object({
  type: z.literal('Metaspace'),
  replacement: z.string().length(1),
  prepend_scheme: z.enum(['always', 'first', 'never']).optional(),
  add_prefix_space: z.boolean().optional(),
  split: z.boolean().default(true),
});
const cutterSchema = z.union([
  metaspaceSchema,
  z.object({ type: z.literal('BertPreTokenizer') }),
  z.object({
    type: z.literal('Sequence'),
    pretokenizers: z.tuple([z.object({ type: z.literal('WhitespaceSplit') }), metaspaceSchema]),
  }),
]);

/** White space is left out, punctuation stands alone: that of ASCII, which has symbols in it, and of Unicode. */
const bertWords = /[!-/:-@[-`{-~\p{P}]|[^!-/:-@[-`{-~\p{P}\p{White_Space}]+/gu;

/** What a `pre_tokenizer` entry does; undefined for one that is not known here. */
export function cutterOf(json: unknown): CutWords | undefined {
  if (json === null || json === undefined) return (text) => [text];
  const parsed = cutterSchema.safeParse(json);
  if (!parsed.success) return undefined;
  const step = parsed.data;
  switch (step.type) {
    case 'BertPreTokenizer':
      return (text) => text.match(bertWords) ?? [];
    case 'Metaspace':
      return metaspace(step);
    case 'Sequence': {
      const each = metaspace(step.pretokenizers[1]);
      return (text, isFirst) =>
        (text.match(/\P{White_Space}+/gu) ?? []).flatMap((word, index) => each(word, isFirst && index === 0));
    }
  }
}

function metaspace({
  replacement,
  prepend_scheme,
  add_prefix_space = true,
  split,
}: z.output<typeof metaspaceSchema>): CutWords {
  const scheme = prepend_scheme ?? (add_prefix_space ? 'always' : 'never');
  return (text, isFirst) => {
    const spaced = text.replaceAll(' ', replacement);
    const prepends =
      (scheme === 'always' || (scheme === 'first' && isFirst)) && !spaced.startsWith(replacement);
    const marked = prepends ? replacement + spaced : spaced;
    if (!split) return [marked];
    const words: string[] = [];
    for (let start = 0; start < marked.length;) {
      const next = marked.indexOf(replacement, start + 1);
      const end = next < 0 ? marked.length : next;
      words.push(marked.slice(start, end));
      start = end;
    }
    return words;
  };
}
