/**
 * BERT's `vocab.txt` as a `tokenizer.json`.
 * @module
 */
import { addedToken } from '../byte-tokenizer.js';
import type { TokenizerFile } from '../tokenizer.js';

/** How text was made ready for a WordPiece vocabulary; `vocab.txt` does not say. */
export interface WordPieceOptions {
  /** Lower case, and accents taken off: the `uncased` models. Default: whether no piece has an upper-case letter. */
  readonly lowercase?: boolean;
}

const specialNames = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]'] as const;

/**
 * The `tokenizer.json` of a WordPiece vocabulary, one piece a line, with the parts that Hugging Face gives BERT: clean
 * text, CJK characters and punctuation alone, `[CLS] … [SEP]` around a sentence, decoding with English clean-up.
 *
 * @throws RangeError if a line comes twice, or `[UNK]`, `[CLS]` or `[SEP]` is missing.
 */
export function wordPieceFile(vocabulary: string, options: WordPieceOptions = {}): TokenizerFile {
  const lines = vocabulary.split(/\r?\n/);
  if (lines.at(-1) === '') lines.pop();
  const ids = new Map<string, number>();
  lines.forEach((piece, id) => {
    const earlier = ids.get(piece);
    if (earlier !== undefined)
      throw new RangeError(`lines ${earlier + 1} and ${id + 1} are both ${JSON.stringify(piece)}`);
    ids.set(piece, id);
  });
  for (const name of ['[UNK]', '[CLS]', '[SEP]']) {
    if (!ids.has(name))
      throw new RangeError(`no line is ${name}: this is not the vocabulary of a BERT model`);
  }
  const isSpecial = (piece: string): boolean => /^\[.+\]$/.test(piece);
  const lowercase = options.lowercase ?? !lines.some((piece) => !isSpecial(piece) && /\p{Lu}/u.test(piece));
  const special = (token: string): object => ({
    id: token,
    ids: [ids.get(token)!],
    tokens: [token],
  });
  const mark = (id: string, type: number): object => ({ SpecialToken: { id, type_id: type } });
  const sequence = (id: string, type: number): object => ({ Sequence: { id, type_id: type } });
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: specialNames.flatMap((name) => {
      const id = ids.get(name);
      return id === undefined ? [] : [addedToken(id, name)];
    }),
    normalizer: {
      type: 'BertNormalizer',
      clean_text: true,
      handle_chinese_chars: true,
      strip_accents: null,
      lowercase,
    },
    pre_tokenizer: { type: 'BertPreTokenizer' },
    post_processor: {
      type: 'TemplateProcessing',
      single: [mark('[CLS]', 0), sequence('A', 0), mark('[SEP]', 0)],
      pair: [mark('[CLS]', 0), sequence('A', 0), mark('[SEP]', 0), sequence('B', 1), mark('[SEP]', 1)],
      special_tokens: { '[CLS]': special('[CLS]'), '[SEP]': special('[SEP]') },
    },
    decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
    model: {
      type: 'WordPiece',
      unk_token: '[UNK]',
      continuing_subword_prefix: '##',
      max_input_chars_per_word: 100,
      vocab: Object.fromEntries(ids),
    },
  };
}
