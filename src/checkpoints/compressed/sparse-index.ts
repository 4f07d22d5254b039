/**
 * Which places of a matrix hold values: a bit for every place, or compressed sparse rows, whichever is smaller.
 * @module
 */

/** One bit for each place, row by row, the lowest bit of a byte first. */
export interface Bitmap {
  readonly kind: 'bitmap';
  /** `[⌈rows · columns / 8⌉]`; bits past the end are 0. */
  readonly bits: Uint8Array;
}

/** Compressed sparse rows. */
export interface CompressedRows {
  readonly kind: 'csr';
  /** `[rows + 1]`: how many places come before each row, and in all. */
  readonly rowStarts: Uint32Array;
  /** Column of each place, ascending within a row; 16 bits where every column fits. */
  readonly columns: Uint16Array | Uint32Array;
}

/** See the module. */
export type SparseIndex = Bitmap | CompressedRows;

/** Bytes of the smaller index for `count` places of a matrix. */
export function sparseIndexBytes(rows: number, columns: number, count: number): number {
  return Math.min(bitmapBytes(rows, columns), compressedRowsBytes(rows, columns, count));
}

/** Places of an index. */
export function countPlaces(index: SparseIndex): number {
  if (index.kind === 'csr') return index.columns.length;
  let count = 0;
  for (const byte of index.bits) count += ones[byte];
  return count;
}

/**
 * The smaller index for the places whose bits are set.
 * @param bits as in {@link Bitmap}; kept when the bitmap is the smaller one.
 */
export function sparseIndexOf(rows: number, columns: number, bits: Uint8Array): SparseIndex {
  const bitmap: Bitmap = { kind: 'bitmap', bits };
  const count = countPlaces(bitmap);
  if (compressedRowsBytes(rows, columns, count) >= bits.length) return bitmap;
  const rowStarts = new Uint32Array(rows + 1);
  const places = columns <= 1 << 16 ? new Uint16Array(count) : new Uint32Array(count);
  let at = 0;
  eachPlace(bitmap, rows, columns, (row, column) => {
    places[at++] = column;
    rowStarts[row + 1] = at;
  });
  for (let row = 1; row <= rows; row++) rowStarts[row] = Math.max(rowStarts[row], rowStarts[row - 1]);
  return { kind: 'csr', rowStarts, columns: places };
}

/**
 * Whether an index that somebody else wrote says where `count` values belong, each place at most once.
 * @returns what is wrong, in words that follow the tensor's name; undefined if nothing is.
 */
export function checkIndex(
  index: SparseIndex,
  rows: number,
  columns: number,
  count: number,
): { readonly tensor: 'bitmap' | 'row_starts' | 'columns'; readonly reason: string } | undefined {
  if (index.kind === 'bitmap') {
    const places = countPlaces(index);
    if (places !== count) return { tensor: 'bitmap', reason: `marks ${places} places for ${count} values` };
    const beyond = (rows * columns) % 8;
    return beyond !== 0 && index.bits.at(-1)! >> beyond !== 0
      ? { tensor: 'bitmap', reason: `marks places past the end of [${rows}, ${columns}]` }
      : undefined;
  }
  const { rowStarts, columns: places } = index;
  for (let row = 0; row <= rows; row++) {
    const start = rowStarts[row];
    const isRising = row === 0 ? start === 0 : start >= rowStarts[row - 1] && start <= count;
    if (!isRising || (row === rows && start !== count))
      return { tensor: 'row_starts', reason: `must rise from 0 to ${count}, but [${row}] is ${start}` };
  }
  for (let row = 0; row < rows; row++) {
    for (let at = rowStarts[row]; at < rowStarts[row + 1]; at++) {
      if (places[at] >= columns || (at > rowStarts[row] && places[at] <= places[at - 1]))
        return {
          tensor: 'columns',
          reason: `must rise within a row and stay below ${columns}, but [${at}] is ${places[at]}`,
        };
    }
  }
  return undefined;
}

/** Visits the places row by row, columns ascending; `order` counts them from 0. */
export function eachPlace(
  index: SparseIndex,
  rows: number,
  columns: number,
  visit: (row: number, column: number, order: number) => void,
): void {
  if (index.kind === 'csr') {
    for (let row = 0; row < rows; row++) {
      const end = index.rowStarts[row + 1];
      for (let order = index.rowStarts[row]; order < end; order++) visit(row, index.columns[order], order);
    }
    return;
  }
  const { bits } = index;
  let order = 0;
  for (let byte = 0; byte < bits.length; byte++) {
    for (let rest = bits[byte]; rest !== 0; rest &= rest - 1) {
      const place = byte * 8 + 31 - Math.clz32(rest & -rest);
      const row = Math.floor(place / columns);
      visit(row, place - row * columns, order++);
    }
  }
}

/** Bytes of a {@link Bitmap}. */
export function bitmapBytes(rows: number, columns: number): number {
  return Math.ceil((rows * columns) / 8);
}

/** Bytes of {@link CompressedRows}. */
export function compressedRowsBytes(rows: number, columns: number, count: number): number {
  return 4 * (rows + 1) + count * (columns <= 1 << 16 ? 2 : 4);
}

/** Set bits of a byte. */
const ones = Uint8Array.from({ length: 256 }, (_, byte) => byte.toString(2).replaceAll('0', '').length);
