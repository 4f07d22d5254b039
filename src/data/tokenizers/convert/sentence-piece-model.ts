/**
 * Reads SentencePiece's `.model` file: a protobuf message `ModelProto`.
 * @module
 */
import { BinaryReader, WireType } from '@bufbuild/protobuf/wire';

/** What a piece is: the numbers of `ModelProto.SentencePiece.Type`. */
export const pieceTypes = {
  normal: 1,
  unknown: 2,
  control: 3,
  userDefined: 4,
  unused: 5,
  byte: 6,
} as const;

/** One entry of the vocabulary. */
export interface SentencePiece {
  readonly piece: string;
  readonly score: number;
  readonly type: number;
}

/** The parts of a model that decide its ids. */
export interface SentencePieceModel {
  readonly pieces: readonly SentencePiece[];
  readonly type: 'unigram' | 'bpe';
  readonly byteFallback: boolean;
  /** Ids of special pieces; −1 where there is none. */
  readonly unknownId: number;
  readonly bosId: number;
  readonly eosId: number;
  readonly padId: number;
  /** Empty for `identity`. */
  readonly charsmap: Uint8Array;
  /** Whether a space is put before the text. */
  readonly addsDummyPrefix: boolean;
  /** Whether spaces around the text and runs of spaces go. */
  readonly removesExtraSpaces: boolean;
  readonly escapesSpaces: boolean;
}

/** Fields of a message: what to do for each number. Others are skipped, as protobuf wants. */
type Fields = Readonly<Record<number, { readonly wire: WireType; read(reader: BinaryReader): void }>>;

const varint = (read: (reader: BinaryReader) => void): Fields[number] => ({ wire: WireType.Varint, read });
const bytes = (read: (reader: BinaryReader) => void): Fields[number] => ({
  wire: WireType.LengthDelimited,
  read,
});

/**
 * Reads a model.
 *
 * @throws RangeError in one line if it is no such message, is cut, or is of a kind (word, char) that has no counterpart
 *   in a `tokenizer.json`.
 */
export function readSentencePieceModel(data: Uint8Array): SentencePieceModel {
  const pieces: SentencePiece[] = [];
  const trainer = {
    type: 1,
    byteFallback: false,
    unknownId: 0,
    bosId: 1,
    eosId: 2,
    padId: -1,
    suffix: false,
  };
  const normalizer = {
    charsmap: new Uint8Array(),
    addsDummyPrefix: true,
    removesExtraSpaces: true,
    escapesSpaces: true,
  };
  try {
    readMessage(data, {
      1: bytes((reader) => pieces.push(readPiece(reader.bytes()))),
      2: bytes((reader) =>
        readMessage(reader.bytes(), {
          3: varint((field) => (trainer.type = field.int32())),
          24: varint((field) => (trainer.suffix = field.bool())),
          35: varint((field) => (trainer.byteFallback = field.bool())),
          40: varint((field) => (trainer.unknownId = field.int32())),
          41: varint((field) => (trainer.bosId = field.int32())),
          42: varint((field) => (trainer.eosId = field.int32())),
          43: varint((field) => (trainer.padId = field.int32())),
        }),
      ),
      3: bytes((reader) =>
        readMessage(reader.bytes(), {
          2: bytes((field) => (normalizer.charsmap = Uint8Array.from(field.bytes()))),
          3: varint((field) => (normalizer.addsDummyPrefix = field.bool())),
          4: varint((field) => (normalizer.removesExtraSpaces = field.bool())),
          5: varint((field) => (normalizer.escapesSpaces = field.bool())),
        }),
      ),
    });
  } catch (error) {
    throw new RangeError(`no SentencePiece model, or a damaged one: ${(error as Error).message}`, {
      cause: error,
    });
  }
  if (pieces.length === 0) throw new RangeError('no SentencePiece model: it has no pieces');
  const kind = ({ 1: 'unigram', 2: 'bpe' } as const)[trainer.type];
  if (!kind)
    throw new RangeError(
      `its model_type is ${trainer.type}; only 1 (unigram) and 2 (bpe) have a tokenizer.json`,
    );
  if (trainer.suffix)
    throw new RangeError('treat_whitespace_as_suffix has no counterpart in a tokenizer.json');
  return { pieces, ...trainer, ...normalizer, type: kind };
}

function readPiece(data: Uint8Array): SentencePiece {
  const piece = { piece: '', score: 0, type: pieceTypes.normal as number };
  readMessage(data, {
    1: bytes((reader) => (piece.piece = reader.string())),
    2: { wire: WireType.Bit32, read: (reader) => (piece.score = reader.float()) },
    3: varint((reader) => (piece.type = reader.int32())),
  });
  if (!Number.isFinite(piece.score))
    throw new RangeError(`the score of ${JSON.stringify(piece.piece)} is ${piece.score}`);
  return piece;
}

function readMessage(data: Uint8Array, fields: Fields): void {
  const reader = new BinaryReader(data);
  while (reader.pos < reader.len) {
    const [number, wire] = reader.tag();
    const field = fields[number];
    if (!field) reader.skip(wire, number);
    else if (field.wire === wire) field.read(reader);
    else throw new RangeError(`field ${number} has wire type ${wire}, not ${field.wire}`);
    if (reader.pos > reader.len) throw new RangeError(`field ${number} ends after its message`);
  }
}
