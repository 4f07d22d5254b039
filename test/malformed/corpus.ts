/**
 * Small safetensors files with the verdict of the reference implementation, made by `safetensors/make-corpus.py`.
 * @module
 */
import { readFileSync } from 'node:fs';

/** A file of the corpus. */
export interface CorpusFile {
  /** The header as it stands in the file. */
  readonly header: Buffer;
  /** Length that the first eight bytes claim. */
  readonly claims: bigint;
  /** Zero bytes after the header. */
  readonly data: number;
  /** What the reference read; undefined if it refused the file. */
  readonly accepted:
    | { readonly metadata: object; readonly tensors: Readonly<Record<string, readonly (string | number)[]>> }
    | undefined;
  /** Why the reference refused it. */
  readonly refused: string | undefined;
}

interface Line {
  readonly header?: string;
  readonly base64?: string;
  readonly claims?: string;
  readonly data: number;
  readonly accepted?: CorpusFile['accepted'];
  readonly refused?: string;
}

/** All files of the corpus. */
export function readCorpus(): readonly CorpusFile[] {
  const path = new URL('safetensors/corpus.json', import.meta.url);
  const { cases } = JSON.parse(readFileSync(path, 'utf8')) as { cases: readonly Line[] };
  return cases.map(({ header, base64, claims, data, accepted, refused }) => {
    const bytes = base64 === undefined ? Buffer.from(header!) : Buffer.from(base64, 'base64');
    return { header: bytes, claims: BigInt(claims ?? bytes.length), data, accepted, refused };
  });
}

/** The file itself. */
export function bytesOfFile({ header, claims, data }: CorpusFile): Buffer {
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(claims);
  return Buffer.concat([length, header, Buffer.alloc(data)]);
}
