import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { afterAll, describe, expect, it } from 'vitest';
import { HuggingFaceTokenizer } from '../hugging-face-tokenizer.js';
import { loadTokenizer } from '../load-tokenizer.js';
import { PieceTokenizer } from '../piece-tokenizer.js';
import { convertTokenizer } from './convert-tokenizer.js';
import { llama2cTokenizerFile } from './llama2c.js';
import { readSentencePieceModel } from './sentence-piece-model.js';
import { wordPieceFile } from './word-piece.js';

const golden = 'test/golden/tokenizers';
const expected = JSON.parse(readFileSync(join(golden, 'ids.json'), 'utf8')) as {
  lines: string[];
} & Record<'unigram' | 'bytes' | 'wordPiece', { pieces: number; ids: number[][]; text: string[] }>;

const folder = mkdtempSync(join(tmpdir(), 'switchyard-convert-'));
afterAll(() => rmSync(folder, { recursive: true }));
const put = (name: string, content: string | Uint8Array): string => {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
};

describe.each([
  ['unigram', 'unigram.model'],
  ['bytes', 'bytes.model'],
  ['wordPiece', 'vocab.txt'],
] as const)('a %s vocabulary', (name, file) => {
  const { pieces, ids, text } = expected[name];
  const tokenizer = loadTokenizer(join(golden, file));

  it('gives the ids of the reference', () => {
    expect(tokenizer).toBeInstanceOf(PieceTokenizer);
    expect(tokenizer.vocabSize).toBe(pieces);
    const different = expected.lines.filter((line, at) => tokenizer.encode(line).join() !== ids[at].join());
    expect(different).toEqual([]);
  });

  it('gives the text of the reference', () => {
    const wrong = expected.lines.filter((_, at) => {
      // SentencePiece writes ⁇ for an unknown piece; ours, as Hugging Face's, leaves special tokens out.
      const wanted = text[at].replaceAll(' \u2047 ', '');
      return tokenizer.decode(ids[at]) !== wanted;
    });
    expect(wrong).toEqual([]);
  });

  it('comes back from its tokenizer.json', () => {
    const again = loadTokenizer(put(`${name}.json`, JSON.stringify(tokenizer.toFile())));
    expect(again.fingerprint).toBe(tokenizer.fingerprint);
    expect(again.special).toEqual(tokenizer.special);
    for (const line of expected.lines) expect(again.encode(line)).toEqual(tokenizer.encode(line));
  });

  it('is read by @huggingface/tokenizers, with equal ids for plain text', () => {
    const library = new HuggingFaceTokenizer(tokenizer.toFile(), tokenizer.special);
    for (const line of expected.lines.filter((each) => /^[ -~]+$/.test(each)))
      expect(library.encode(line)).toEqual(tokenizer.encode(line));
  });

  it('takes special tokens in the text for what they are and leaves them out of decoded text', () => {
    const unknown = name === 'wordPiece' ? '[UNK]' : '<unk>';
    const encoded = tokenizer.encode(`the ${unknown} dog`);
    expect(encoded).toContain(tokenizer.special.unknown);
    expect(tokenizer.decode(encoded)).not.toContain(unknown);
  });
});

describe('vocab.txt', () => {
  it('is cased where a piece has a capital', () => {
    const normalizer = (text: string): unknown => wordPieceFile(text)['normalizer'];
    const special = '[PAD]\n[UNK]\n[CLS]\n[SEP]\n';
    expect(normalizer(`${special}the`)).toMatchObject({ lowercase: true });
    expect(normalizer(`${special}The`)).toMatchObject({ lowercase: false });
  });

  it.each([
    ['twice', '[UNK]\n[CLS]\n[SEP]\na\nb\na\n', 'lines 4 and 6 are both "a"'],
    ['none', 'a\nb\n', 'no line is [UNK]: this is not the vocabulary of a BERT model'],
  ])('is refused with one line: %s', (name, text, message) => {
    const path = put(`${name}.txt`, text);
    expect(() => convertTokenizer(path)).toThrow(`${path}: ${message}`);
  });
});

describe('a .model', () => {
  const message = (write: (writer: BinaryWriter) => void): Uint8Array => {
    const writer = new BinaryWriter();
    write(writer);
    return writer.finish();
  };
  const piece = (text: string, score = 0): Uint8Array =>
    message((writer) =>
      writer.tag(1, WireType.LengthDelimited).string(text).tag(2, WireType.Bit32).float(score),
    );
  const model = (trainer: Uint8Array, ...pieces: Uint8Array[]): Uint8Array =>
    message((writer) => {
      for (const each of pieces) writer.tag(1, WireType.LengthDelimited).bytes(each);
      writer.tag(2, WireType.LengthDelimited).bytes(trainer);
    });
  const kind = (type: number): Uint8Array => message((writer) => writer.tag(3, WireType.Varint).int32(type));

  it.each<[string, Uint8Array, RegExp]>([
    ['no pieces', model(kind(1)), /it has no pieces/],
    ['words', model(kind(3), piece('a')), /model_type is 3; only 1 \(unigram\) and 2 \(bpe\)/],
    ['a score that is no number', model(kind(1), piece('a', NaN)), /score of "a" is NaN/],
    [
      'a wire type',
      message((writer) => writer.tag(1, WireType.Varint).int32(5)),
      /field 1 has wire type 0, not 2/,
    ],
    ['a length beyond the file', Uint8Array.of(10, 255, 255, 255, 255, 7, 1), /damaged/],
    ['text', new TextEncoder().encode('this is no protobuf at all'), /no SentencePiece model/],
  ])('is refused in one line: %s', (_, bytes, expectedMessage) => {
    expect(() => readSentencePieceModel(bytes)).toThrow(expectedMessage);
  });

  it('that is cut anywhere is refused or shorter, never a hang or another kind of error', () => {
    const whole = readFileSync(join(golden, 'bytes.model'));
    for (let end = 0; end < whole.length; end += 37) {
      try {
        expect(readSentencePieceModel(whole.subarray(0, end)).pieces.length).toBeLessThanOrEqual(
          expected.bytes.pieces,
        );
      } catch (error) {
        expect(error).toBeInstanceOf(RangeError);
      }
    }
  });
});

describe("llama2.c's tokenizer.bin", () => {
  const bin = (tokens: readonly (readonly [text: string, score: number])[]): Buffer =>
    Buffer.concat([
      Buffer.from(Int32Array.of(8).buffer),
      ...tokens.flatMap(([text, score]) => {
        const bytes = Buffer.from(text);
        return [
          Buffer.from(Float32Array.of(score).buffer),
          Buffer.from(Int32Array.of(bytes.length).buffer),
          bytes,
        ];
      }),
    ]);
  const bytes = Array.from({ length: 256 }, (_, byte): [string, number] => [
    `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`,
    0,
  ]);
  const tokens: [string, number][] = [
    ['<unk>', 0],
    ['\n<s>\n', 0],
    ['\n</s>\n', 0],
    ...bytes,
    [' t', -1],
    ['he', -2],
    [' the', -3],
    ...[...' the\u00e9'].map((character, index): [string, number] => [character, -10 - index]),
  ];

  it('merges by score and spells other characters in bytes', () => {
    const tokenizer = loadTokenizer(put('tiny.bin', bin(tokens)));
    expect(tokenizer.special).toEqual({ bos: 1, eos: 2, unknown: 0 });
    // A space comes first, even before a space.
    expect([...tokenizer.encode('the')]).toEqual([261]);
    expect([...tokenizer.encode(' the')]).toEqual([262, 261]);
    expect([...tokenizer.encode('hé\n€')]).toEqual([262, 264, 266, 13, 229, 133, 175]);
    for (const text of ['the the', ' the', 'hé\n€😀', '  ', '']) {
      expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
    }
    expect(tokenizer.decode([229, 133])).toBe('\uFFFD\uFFFD');
  });

  it.each<[string, Buffer, RegExp]>([
    ['cut', bin(tokens).subarray(0, -1), /token 266 says that it has 2 bytes/],
    ['short', bin(tokens.slice(0, 100)), /it has 100 tokens/],
    ['other bytes', bin([...tokens.slice(0, 3), ['a', 0], ...tokens.slice(4)]), /token 3 is "a", not <0x00>/],
    ['twice', bin([...tokens, ['he', -4]]), /"he" comes twice/],
  ])('is refused in one line: %s', (_, data, message) => {
    expect(() => llama2cTokenizerFile(data)).toThrow(message);
  });
});
