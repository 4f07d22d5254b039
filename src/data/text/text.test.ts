import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { CldrCorpus } from '../cldr/corpus.js';
import { ByteTokenizer } from '../tokenizers/byte-tokenizer.js';
import { CharacterTokenizer } from '../tokenizers/character-tokenizer.js';
import type { Tokenizer } from '../tokenizers/tokenizer.js';
import { trainBytePair } from '../tokenizers/train-byte-level-bpe.js';
import { findText } from './text-corpus.js';
import { readText, wholeFile, type TextRange } from './text-range.js';
import { openTokens, type TokenFile } from './token-file.js';

const folder = mkdtempSync(join(tmpdir(), 'switchyard-text-'));
afterAll(() => rmSync(folder, { recursive: true }));
let count = 0;
const write = (content: string | Uint8Array, name = `text-${count++}.txt`): string => {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
};
const newFolder = (files: Record<string, string>): string => {
  const path = join(folder, `folder-${count++}`);
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(join(path, name, '..'), { recursive: true });
    writeFileSync(join(path, name), content);
  }
  mkdirSync(path, { recursive: true });
  return path;
};
const textOf = async (...ranges: readonly TextRange[]): Promise<string> => {
  let text = '';
  for (const range of ranges) for await (const piece of readText(range)) text += piece;
  return text;
};
const contentOf = (file: TokenFile): Int32Array => {
  const ids = new Int32Array(file.length);
  file.read(0, file.length, ids, 0);
  return ids;
};
const corpus = new CldrCorpus({ seed: 4, validationMeanings: 16 });
/** 3 MB in all scripts: characters of every length cross the edges of the pieces. */
const world = Array.from({ length: 26_000 }, (_, index) => corpus.line('train', index).text).join('\n');

describe('reading', () => {
  it('gives the text of a file of several pieces, cut before white space', async () => {
    const range = await wholeFile(write(world));
    const pieces: string[] = [];
    for await (const piece of readText(range)) pieces.push(piece);
    expect(pieces.length).toBeGreaterThan(2);
    expect(pieces.join('')).toBe(world);
    for (const piece of pieces.slice(1)) expect(piece[0]).toMatch(/\s/);
    for (const piece of pieces.slice(0, -1)) expect(piece.at(-1)).toMatch(/\S/);
  });
  it('leaves out a byte order mark, but no other U+FEFF', async () => {
    expect(await textOf(await wholeFile(write('\ufeffa\ufeffb')))).toBe('a\ufeffb');
  });
  it('does not cut before U+FEFF, which is no white space to a tokenizer', async () => {
    const pieces: string[] = [];
    for await (const piece of readText(await wholeFile(write('!\ufeff'.repeat(300_000))))) pieces.push(piece);
    expect(pieces).toHaveLength(1);
  });
  it('reads 20 MB without white space, cutting between characters', async () => {
    const text = '😀é'.repeat(3_400_000);
    expect((await textOf(await wholeFile(write(text)))) === text).toBe(true);
  });
  it('names the file and the byte that is not UTF-8, wherever it stands', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 0, max: 2_500_000 }),
        fc.constantFrom(
          [0xff],
          [0xc3, 0x28],
          [0xe2, 0x82],
          [0xed, 0xa0, 0x80],
          [0x80],
          [0xc0, 0xaf],
          [0xf5, 0x80, 0x80, 0x80],
        ),
        async (at, bad) => {
          const path = write(Buffer.concat([Buffer.alloc(at, 'a b'), Buffer.from(bad)]), 'bad.txt');
          const expected = `bad.txt is not UTF-8: byte ${at} (0x${bad[0].toString(16)})`;
          await expect(wholeFile(path).then((range) => textOf(range))).rejects.toThrow(expected);
          appendFileSync(path, ' and more text');
          await expect(wholeFile(path).then((range) => textOf(range))).rejects.toThrow(expected);
        },
      ),
      { seed: 3, numRuns: 25 },
    );
  });
  it('names a file that is cut while it is read', async () => {
    const path = write('x'.repeat(100));
    const range = await wholeFile(path);
    truncateSync(path, 40);
    await expect(textOf(range)).rejects.toThrow(/ended at byte 40 while it was read/);
  });
});

describe('finding', () => {
  it('refuses what is missing or empty with one line', async () => {
    await expect(findText(join(folder, 'none'))).rejects.toThrow('none: there is no such file or folder');
    await expect(findText(write('', 'empty.txt'))).rejects.toThrow('empty.txt is empty');
    await expect(findText(write('\ufeff', 'mark.txt'))).rejects.toThrow(
      'mark.txt is empty but for a byte order mark',
    );
    await expect(findText(newFolder({ 'a.md': 'x' }))).rejects.toThrow(
      'is a folder without text: it holds no .txt file',
    );
    await expect(findText(newFolder({ 'a.txt': 'text', 'b.txt': '' }))).rejects.toThrow('b.txt is empty');
    await expect(findText(write('x', 'one.txt'))).rejects.toThrow('one.txt has 1 bytes: too few');
    await expect(findText(write('text\n'), join(folder, 'none'))).rejects.toThrow('there is no such file');
  });
  it('splits a file where a line begins, losing nothing', async () => {
    const path = write(world);
    const { train, validation } = await findText(path, undefined, 0.2);
    const [before, after] = [await textOf(...train), await textOf(...validation)];
    expect(before + after === world).toBe(true);
    expect(before.endsWith('\n')).toBe(true);
    expect(Buffer.byteLength(after) / Buffer.byteLength(world)).toBeCloseTo(0.2, 2);
  });
  it('splits a text without lines at a word, without words at a character', async () => {
    const words = 'wörter und '.repeat(500);
    const parts = await findText(write(words));
    expect((await textOf(...parts.train)).endsWith(' ')).toBe(true);
    expect((await textOf(...parts.train)) + (await textOf(...parts.validation))).toBe(words);
    for (const length of [31, 32, 33, 34, 35]) {
      const letters = '語'.repeat(length);
      const pieces = await findText(write(letters));
      expect((await textOf(...pieces.train)) + (await textOf(...pieces.validation))).toBe(letters);
    }
  });
  it('takes train.txt and valid.txt of a folder, else all .txt files in the order of their names', async () => {
    const named = await findText(
      newFolder({ 'train.txt': 'train\n', 'valid.txt': 'valid\n', 'test.txt': 'test\n' }),
    );
    expect([await textOf(...named.train), await textOf(...named.validation)]).toEqual(['train\n', 'valid\n']);
    const all = newFolder({
      'b.txt': 'bbbb\n'.repeat(10),
      'a/z.txt': 'zzzz\n'.repeat(10),
      'c.md': 'no',
      'B.txt': 'BBBB\n'.repeat(10),
    });
    const split = await findText(all, undefined, 0.5);
    expect(await textOf(...split.train, ...split.validation)).toBe(
      'BBBB\n'.repeat(10) + 'zzzz\n'.repeat(10) + 'bbbb\n'.repeat(10),
    );
    expect(await textOf(...split.validation)).toBe('zzzz\n'.repeat(5) + 'bbbb\n'.repeat(10));
    const own = await findText(all, write('own\n'));
    expect(await textOf(...own.validation)).toBe('own\n');
  });
});

describe('token files', () => {
  const cache = join(folder, 'cache');
  const bpe = trainBytePair([world.slice(0, 200_000)], { vocabSize: 1000 });

  it.each<[string, Tokenizer]>([
    ['bytes', new ByteTokenizer()],
    ['byte pairs', bpe],
    ['characters', CharacterTokenizer.of(world)],
  ])('hold the ids of the whole text: %s', async (_, tokenizer) => {
    const file = await openTokens([await wholeFile(write(world))], tokenizer, cache);
    const expected = tokenizer.encode(world);
    expect(file.length).toBe(expected.length);
    expect(Buffer.compare(Buffer.from(contentOf(file).buffer), Buffer.from(expected.buffer))).toBe(0);
    const some = new Int32Array(12).fill(-1);
    file.read(1000, 1010, some, 1);
    expect(Array.from(some)).toEqual([-1, ...expected.subarray(1000, 1010), -1]);
    expect(() => file.read(file.length - 1, file.length + 1, some, 0)).toThrow('outside a file');
    file.close();
  });
  it('use four bytes where the vocabulary is large', async () => {
    const wide: Tokenizer = {
      vocabSize: 70_000,
      special: {},
      fingerprint: 'wide',
      encode: (text) => Int32Array.from(text, (character) => 65_000 + character.charCodeAt(0)),
      decode: () => '',
      byteLength: () => 0,
      toFile: () => ({}),
    };
    const file = await openTokens([await wholeFile(write('ɐ\nz'))], wide, cache);
    expect(file.bytesPerToken).toBe(4);
    expect(Array.from(contentOf(file))).toEqual([65_592, 65_010, 65_122]);
    file.close();
  });
  it('join files by the end-of-text token where there is one', async () => {
    const ranges = [await wholeFile(write('a')), await wholeFile(write('b'))];
    const open = async (tokenizer: Tokenizer): Promise<number[]> => {
      const file = await openTokens(ranges, tokenizer, cache);
      const ids = Array.from(contentOf(file));
      file.close();
      return ids;
    };
    expect(await open(new ByteTokenizer({ specialTokens: true }))).toEqual([97, 258, 98]);
    expect(await open(new ByteTokenizer())).toEqual([97, 98]);
  });
  it('are made once, and again when the text, its date or the tokenizer changes', async () => {
    const path = write('some text');
    const own = join(folder, 'own-cache');
    let encoded = 0;
    class Counting extends ByteTokenizer {
      override encode(text: string): Int32Array {
        encoded++;
        return super.encode(text);
      }
    }
    const open = async (tokenizer: Tokenizer): Promise<string> => {
      const file = await openTokens([await wholeFile(path)], tokenizer, own);
      file.close();
      return file.fingerprint;
    };
    const first = await open(new Counting());
    expect(await open(new Counting())).toBe(first);
    expect(encoded).toBe(1);
    utimesSync(path, 5, 5);
    expect(await open(new Counting())).toBe(first);
    expect(encoded).toBe(2);
    writeFileSync(path, 'some Text');
    expect(await open(new Counting())).not.toBe(first);
    await open(new Counting({ specialTokens: true }));
    expect(encoded).toBe(4);
  });
  it('are not trusted when half written or damaged', async () => {
    const range = await wholeFile(write('trusted text'));
    const own = join(folder, 'damaged-cache');
    const open = async (): Promise<string> => {
      const file = await openTokens([range], new ByteTokenizer(), own);
      const text = new ByteTokenizer().decode(contentOf(file));
      file.close();
      return text;
    };
    await open();
    const [bin, header] = readdirSync(own).sort() as [string, string];
    expect([bin.endsWith('.bin'), header.endsWith('.json')]).toEqual([true, true]);
    const good = readFileSync(join(own, header));
    const damages = [
      () => truncateSync(join(own, bin), 7),
      () => rmSync(join(own, bin)),
      () => rmSync(join(own, header)),
      () => truncateSync(join(own, header), good.length - 3),
      () => writeFileSync(join(own, header), '{}'),
      () => writeFileSync(join(own, header), String(good).replace('"length":12', '"length":11')),
    ];
    for (const damage of damages) {
      damage();
      expect(await open()).toBe('trusted text');
      expect(readFileSync(join(own, header))).toEqual(good);
    }
  });
  it('leave nothing behind when the text is refused', async () => {
    const own = join(folder, 'failed-cache');
    const bad = await wholeFile(write(Buffer.from([65, 32, 0xff]), 'latin.txt'));
    await expect(openTokens([bad], new ByteTokenizer(), own)).rejects.toThrow(
      'latin.txt is not UTF-8: byte 2',
    );
    const unknown = await wholeFile(write('aß', 'sharp.txt'));
    await expect(openTokens([unknown], CharacterTokenizer.of('a'), own)).rejects.toThrow(
      'sharp.txt: character "ß" (U+00DF)',
    );
    expect(readdirSync(own)).toEqual([]);
  });
});
