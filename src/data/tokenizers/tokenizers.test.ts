import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { CldrCorpus } from '../cldr/corpus.js';
import { byteCharacters } from './byte-alphabet.js';
import { BytePairTokenizer } from './byte-level-bpe.js';
import { ByteTokenizer } from './byte-tokenizer.js';
import { CharacterTokenizer } from './character-tokenizer.js';
import { HuggingFaceTokenizer } from './hugging-face-tokenizer.js';
import { loadTokenizer } from './load-tokenizer.js';
import { mergePairs } from './merge-pairs.js';
import { separatorOf, type Tokenizer } from './tokenizer.js';
import { trainBytePair } from './train-byte-level-bpe.js';

const folder = mkdtempSync(join(tmpdir(), 'switchyard-tokenizers-'));
afterAll(() => rmSync(folder, { recursive: true }));

const corpus = new CldrCorpus({ seed: 2, validationMeanings: 16 });
const worldText = Array.from({ length: 3000 }, (_, index) => corpus.line('train', index).text).join('\n');
const awkward = [
  '',
  ' ',
  '\n',
  "I'll we've DON'T 'tis can't",
  'a  b   c \n\n\t x\r\n\r\n  ',
  '😀👩‍👩‍👧‍👦🏳️‍🌈 e\u0301 ﷽ \u00a0\u3000\u2003x',
  '\u0000\u001f\u007f\u00ad',
  '123,456.78²½ ٣٤٥ Ⅻ',
  `${' '.repeat(70)}end`,
  '-'.repeat(700),
  'ab'.repeat(900),
  '中文字符没有空格 ひらがなカタカナ 한국어',
];
const bpe = trainBytePair([worldText], { vocabSize: 1500 });
const characters = CharacterTokenizer.of(worldText + awkward.join(''));
const tokenizers: Record<string, Tokenizer> = {
  bytes: new ByteTokenizer(),
  'bytes with special tokens': new ByteTokenizer({ specialTokens: true }),
  characters: characters,
  'characters with an unknown token': new CharacterTokenizer(characters.characters, { unknown: true }),
  'byte pairs': bpe,
};

describe.each(Object.entries(tokenizers))('%s', (name, tokenizer) => {
  const path = join(folder, `${name.replaceAll(' ', '-')}.json`);
  writeFileSync(path, JSON.stringify(tokenizer.toFile()));
  const library = new HuggingFaceTokenizer(tokenizer.toFile(), tokenizer.special);
  const loaded = loadTokenizer(path);

  it('are lossless and have the ids of @huggingface/tokenizers', () => {
    for (const text of [worldText.slice(0, 100_000), ...awkward]) {
      const ids = tokenizer.encode(text);
      expect(tokenizer.decode(ids)).toBe(text);
      expect(Array.from(ids)).toEqual(Array.from(library.encode(text)));
      expect(library.decode(ids)).toBe(text);
      for (const id of ids) expect(id >= 0 && id < tokenizer.vocabSize).toBe(true);
    }
    expect(library.vocabSize).toBe(tokenizer.vocabSize);
  });

  it('come back from their file', () => {
    for (const text of [worldText.slice(0, 20_000), ...awkward])
      expect(loaded.encode(text)).toEqual(tokenizer.encode(text));
    expect(loaded.vocabSize).toBe(tokenizer.vocabSize);
    expect(loaded.special).toEqual(tokenizer.special);
    expect(loaded.fingerprint).toBe(tokenizer.fingerprint);
    expect(loaded).not.toBeInstanceOf(HuggingFaceTokenizer);
  });

  it('separate lines with one token', () => {
    expect(separatorOf(tokenizer)).toBe(tokenizer.special.eos ?? tokenizer.encode('\n')[0]);
  });
});

describe('byte pairs', () => {
  it('have the ids of @huggingface/tokenizers on any text', () => {
    const library = new HuggingFaceTokenizer(bpe.toFile(), {});
    // The library takes U+FEFF for white space and U+0085 for none, unlike the reference implementation.
    const text = fc
      .string({
        unit: fc.oneof(
          fc.constantFrom(...' \n\t\'"sra1'),
          fc.string({ unit: 'grapheme', maxLength: 1 }),
          fc.string({ unit: 'binary', maxLength: 1 }),
        ),
        maxLength: 60,
      })
      .map((value) =>
        Buffer.from(value)
          .toString()
          .replace(/[\ufeff\u0085]/g, ''),
      );
    fc.assert(
      fc.property(text, (value) => {
        expect(Array.from(bpe.encode(value))).toEqual(Array.from(library.encode(value)));
        expect(bpe.decode(bpe.encode(value))).toBe(value);
      }),
      { seed: 8, numRuns: 500 },
    );
  });
  it('cut at U+0085 and keep U+FEFF with its word, as the reference does', () => {
    const words = (value: string): string[] => Array.from(bpe.encode(value), (id) => bpe.decode([id]));
    expect(words('a\u0085')).toHaveLength(3);
    expect(bpe.decode(bpe.encode('x\ufeffy\u0085z'))).toBe('x\ufeffy\u0085z');
  });
  it('know <|endoftext|> in a text and leave it out of the decoded text', () => {
    const end = bpe.special.eos!;
    expect(end).toBe(1499);
    expect(Array.from(bpe.encode('a<|endoftext|>b'))).toEqual([...bpe.encode('a'), end, ...bpe.encode('b')]);
    expect(bpe.decode([...bpe.encode('a'), end, ...bpe.encode('b')])).toBe('ab');
  });
  it('learn the merges that counting anew after each merge finds', () => {
    const text = worldText.slice(0, 30_000);
    const { vocabulary, merges } = trainBytePair([text], { vocabSize: 420 }).model;
    const words = new Map<string, { ids: number[]; count: number }>();
    const pattern = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;
    const bytes = new TextEncoder();
    const idOfByte = byteCharacters.map((character) => vocabulary.indexOf(character));
    for (const word of text.match(pattern)!) {
      const entry = words.get(word) ?? {
        ids: Array.from(bytes.encode(word), (byte) => idOfByte[byte]),
        count: 0,
      };
      entry.count++;
      words.set(word, entry);
    }
    for (const [left, right, merged] of merges) {
      const counts = new Map<number, number>();
      for (const { ids, count } of words.values()) {
        for (let at = 0; at + 1 < ids.length; at++) {
          const pair = ids[at] * 1000 + ids[at + 1];
          counts.set(pair, (counts.get(pair) ?? 0) + count);
        }
      }
      const [best] = [...counts].sort((a, b) => b[1] - a[1] || a[0] - b[0])[0];
      expect([left, right]).toEqual([Math.floor(best / 1000), best % 1000]);
      for (const entry of words.values()) {
        const next: number[] = [];
        for (let at = 0; at < entry.ids.length; at++) {
          if (entry.ids[at] === left && entry.ids[at + 1] === right) {
            next.push(merged);
            at++;
          } else next.push(entry.ids[at]);
        }
        entry.ids = next;
      }
    }
  });
  it('do not depend on how the training text is cut', () => {
    const lines = worldText.split(/(?=\n)/);
    const again = trainBytePair(lines, { vocabSize: 1500 });
    expect(again.fingerprint).toBe(bpe.fingerprint);
  });
  it('learn 8,000 tokens from 10 MB and encode it in time; a megabyte of one word does not stall', () => {
    // 10 MB of words of Zipf's shape: as many distinct ones as a real text has.
    const parts: string[] = [];
    for (let index = 0; index < 1_700_000; index++) {
      const word = Math.floor(40_000 ** ((index * 0.618_033_988_75) % 1));
      parts.push(
        (word * 2_654_435_761)
          .toString(36)
          .replace(/\d/g, (digit) => 'aeiouhnrst'[Number(digit)])
          .slice(0, 2 + (word % 7)),
      );
    }
    const text = parts.join(' ');
    expect(text.length).toBeGreaterThan(8_000_000);
    const started = performance.now();
    const tokenizer = trainBytePair([text], { vocabSize: 8000 });
    const trained = performance.now();
    expect(tokenizer.vocabSize).toBe(8000);
    expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
    tokenizer.encode('a'.repeat(1_000_000));
    const encoded = performance.now();
    expect(trained - started).toBeLessThan(60_000);
    expect(encoded - trained).toBeLessThan(60_000);
  });
  it('say how many tokens a short text yields', () => {
    expect(() => trainBytePair(['to be or not to be'], { vocabSize: 500 })).toThrow(
      /vocabSize 500 is too large for this text: it has pairs for \d+ tokens only/,
    );
    expect(() => trainBytePair(['to be'], { vocabSize: 256 })).toThrow('at least 257');
  });
  it('merge the leftmost pair of the lowest rank first', () => {
    // aa → A (rank 0), Aa → B (rank 1)
    const table = {
      size: 10,
      ranks: new Map([
        [0, 0],
        [10 * 1 + 0, 1],
      ]),
      merged: [1, 2],
    };
    expect(mergePairs(table, [0, 0, 0])).toEqual([2]);
    expect(mergePairs(table, [0, 0, 0, 0, 0])).toEqual([1, 2]);
    expect(mergePairs(table, [3, 0, 3])).toEqual([3, 0, 3]);
  });
});

describe('characters', () => {
  it('are numbered by code point, as nanoGPT does', () => {
    const tokenizer = CharacterTokenizer.of('b\u{1f600}a\uff21 b');
    expect(tokenizer.characters).toEqual([' ', 'a', 'b', '\uff21', '\u{1f600}']);
    expect(Array.from(tokenizer.encode('ab\u{1f600}'))).toEqual([1, 2, 4]);
  });
  it('name a character they do not know, unless there is a token for it', () => {
    expect(() => CharacterTokenizer.of('ab').encode('aß')).toThrow(
      'character "ß" (U+00DF) is not among the 2 of the vocabulary',
    );
    const open = new CharacterTokenizer(['a', 'b'], { unknown: true });
    expect(Array.from(open.encode('aßb'))).toEqual([0, 2, 1]);
    expect(open.decode([0, 2, 1])).toBe('a\ufffdb');
    expect(Array.from(new HuggingFaceTokenizer(open.toFile(), {}).encode('aßb'))).toEqual([0, 2, 1]);
    expect(() => new CharacterTokenizer(['a', 'a'])).toThrow('comes twice');
    expect(() => new CharacterTokenizer([])).toThrow('at least one');
  });
});

describe('loading', () => {
  const write = (name: string, content: unknown): string => {
    const path = join(folder, name);
    writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content));
    return path;
  };
  const file = bpe.toFile() as {
    model: { vocab: Record<string, number>; merges: string[] };
    added_tokens: object[];
  };

  it('reads merges as pairs, the newer form, and other special tokens from tokenizer_config.json', () => {
    const merges = file.model.merges.map((merge) => merge.split(' '));
    const loaded = loadTokenizer(write('pairs.json', { ...file, model: { ...file.model, merges } }));
    expect(loaded).toBeInstanceOf(BytePairTokenizer);
    expect(loaded.encode(worldText)).toEqual(bpe.encode(worldText));
    write('tokenizer_config.json', { pad_token: { content: '<|endoftext|>' }, bos_token: null });
    expect(loadTokenizer(join(folder, 'pairs.json')).special).toEqual({ pad: 1499, bos: 1499, eos: 1499 });
    rmSync(join(folder, 'tokenizer_config.json'));
  });

  it('gives other kinds to the library', () => {
    const path = write('wordpiece.json', {
      version: '1.0',
      added_tokens: [{ id: 0, content: '[UNK]', special: true }],
      normalizer: {
        type: 'BertNormalizer',
        clean_text: true,
        handle_chinese_chars: true,
        strip_accents: null,
        lowercase: true,
      },
      pre_tokenizer: { type: 'Whitespace' },
      post_processor: null,
      decoder: { type: 'WordPiece', prefix: '##', cleanup: false },
      model: {
        type: 'WordPiece',
        unk_token: '[UNK]',
        continuing_subword_prefix: '##',
        max_input_chars_per_word: 100,
        vocab: { '[UNK]': 0, play: 1, '##ing': 2, ',': 3 },
      },
    });
    const loaded = loadTokenizer(path);
    expect(loaded).toBeInstanceOf(HuggingFaceTokenizer);
    expect(Array.from(loaded.encode('Playing, xyz'))).toEqual([1, 2, 3, 0]);
    expect(loaded.special).toEqual({ unknown: 0 });
    expect(loaded.decode([1, 2])).toBe('playing');
    expect(loaded.decode([])).toBe('');
  });

  it.each<[string, unknown, RegExp]>([
    ['no-json', '{"model":', /no-json is not JSON/],
    ['empty', {}, /empty is not a tokenizer.json: model: .*expected object/],
    [
      'ids',
      { ...file, model: { ...file.model, vocab: { ...file.model.vocab, zzz: -1 } } },
      /model\.vocab\.zzz/,
    ],
    ['merge', { ...file, model: { ...file.model, merges: ['a b c'] } }, /model\.merges\.0/],
    [
      'unknown-merge',
      { ...file, model: { ...file.model, merges: ['a qqq'] } },
      /model\.merges\.0: "qqq" is not in the vocabulary/,
    ],
    [
      'gap',
      { ...file, model: { ...file.model, vocab: { ...file.model.vocab, zzz: 5000 } } },
      /id 5000 \("zzz"\) is too large: there are 1501 ids/,
    ],
    ['double', { ...file, added_tokens: [{ id: 3, content: '<x>' }] }, /id 3 stands for both/],
    [
      'no-byte',
      { ...file, added_tokens: [], model: { ...file.model, merges: [], vocab: { a: 0 } } },
      /the vocabulary has no token for byte 0/,
    ],
    [
      'alphabet',
      { ...file, model: { ...file.model, vocab: { ...file.model.vocab, 'a b': 1500 } } },
      /"a b" is not spelt in the byte alphabet/,
    ],
  ])('refuses %s with one line', (name, content, message) => {
    const path = write(name, content);
    expect(() => loadTokenizer(path)).toThrow(message);
    try {
      loadTokenizer(path);
    } catch (error) {
      expect((error as Error).message).not.toContain('\n');
      expect((error as Error).message).toContain(path);
    }
  });

  const split = (pattern: string): object => ({
    type: 'Sequence',
    pretokenizers: [
      { type: 'Split', pattern: { Regex: pattern }, behavior: 'Isolated', invert: false },
      { type: 'ByteLevel', add_prefix_space: false, use_regex: false },
    ],
  });

  it('22 a catastrophic regular expression is cut off, on a text that it never gets through', () => {
    const stranger = { ...file, pre_tokenizer: split('(?:a+)+$') };
    const tokenizer = new HuggingFaceTokenizer(stranger, {}, 200);
    const started = performance.now();
    expect(() => tokenizer.encode(`${'a'.repeat(60)}b`)).toThrow(
      /^a text of 61 characters took more than 204 ms; a pattern of the tokenizer may be catastrophic: "\(\?:a\+\)\+\$"$/,
    );
    expect(performance.now() - started).toBeLessThan(10_000);
    // Afterwards it works as before.
    expect(tokenizer.decode(tokenizer.encode('bab'))).toBe('bab');
    const normal = { ...file, normalizer: { type: 'Replace', pattern: { Regex: '(?:a+)+$' }, content: 'x' } };
    expect(() => new HuggingFaceTokenizer(normal, {}, 100).encode(`${'a'.repeat(60)}b`)).toThrow(
      'catastrophic',
    );
  });

  it('22 merges of unknown tokens are refused, also where the library runs the file', () => {
    const model = { ...file.model, merges: [...file.model.merges, 'a qqq'] };
    const path = write('library-merge.json', { ...file, model, pre_tokenizer: split('\\p{N}') });
    expect(() => loadTokenizer(path)).toThrow(
      `${path}: model.merges.${file.model.merges.length}: "qqq" is not in the vocabulary`,
    );
    const sound = write('library.json', { ...file, pre_tokenizer: split('\\p{N}') });
    expect(loadTokenizer(sound)).toBeInstanceOf(HuggingFaceTokenizer);
  });

  it('22 ten million tokens are refused before they are read', () => {
    const path = join(folder, 'ten-million.json');
    // The shortest that such a vocabulary can be: four characters, seven digits and four signs a token.
    writeFileSync(path, '{"model":{"type":"BPE","vocab":{');
    truncateSync(path, 15 * 10_000_000);
    const before = process.memoryUsage();
    expect(() => loadTokenizer(path)).toThrow(
      /^.*has 150000000 bytes; of a tokenizer at most 64000000 are read$/,
    );
    const after = process.memoryUsage();
    expect(after.heapUsed + after.external - before.heapUsed - before.external).toBeLessThan(10e6);
    rmSync(path);
  });

  it('as many tokens as the largest vocabularies have are read', () => {
    const tokens = Array.from({ length: 150_000 }, (_, i) => [`▁t${i}`, -i / 1000]);
    const model = { type: 'Unigram', unk_id: 0, vocab: tokens };
    const empty = { added_tokens: [], normalizer: null, post_processor: null, decoder: null };
    for (const pre_tokenizer of [{ type: 'Metaspace', replacement: '▁' }, { type: 'WhitespaceSplit' }]) {
      const loaded = loadTokenizer(write('large.json', { ...empty, pre_tokenizer, model }));
      expect(loaded.vocabSize).toBe(150_000);
    }
  });

  it('names a missing file and a folder', () => {
    expect(() => loadTokenizer(join(folder, 'none.json'))).toThrow('none.json: there is no such file');
    expect(() => loadTokenizer(folder)).toThrow('it is a folder; name the tokenizer.json in it');
  });
});
