/**
 * Parameters out of stored tensors, slice by slice.
 * @module
 */
import type { TensorMapping, TensorPart } from '../hugging-face/architecture.js';
import { elementsOf } from '../safetensors/dtypes.js';
import { readFloats, type TensorSource } from '../tensors/index.js';
import { transposeMatrix } from './transpose.js';

/** Which part of a parameter is read, and where to. */
export interface ParameterSlice {
  /** Index on the first axis; the whole parameter when absent. */
  readonly at?: number;
  /** Where to put the numbers, exactly as many as are read. */
  readonly into?: Float32Array;
  /** Whether the transpose of the slice, a matrix, is wanted; where it is stored so, nothing needs to be turned. */
  readonly transposed?: boolean;
}

/** A part with the tensor that it lies in. */
interface Place {
  readonly entry: TensorMapping;
  readonly part: TensorPart;
}

/** Reads parameters of ours from tensors of any layout. */
export class ParameterReader {
  private readonly whole = new Map<string, Place>();
  private readonly slices = new Map<string, Place[]>();

  constructor(
    private readonly source: TensorSource,
    mapping: readonly TensorMapping[],
  ) {
    for (const entry of mapping) {
      for (const part of entry.parts) {
        const place = { entry, part };
        if (part.at === undefined) this.whole.set(part.parameter, place);
        else {
          const slices = this.slices.get(part.parameter) ?? [];
          slices[part.at] = place;
          this.slices.set(part.parameter, slices);
        }
      }
    }
  }

  /**
   * Reads a parameter or a slice of it.
   * @throws RangeError if the model has no such parameter or slice.
   */
  async read(name: string, { at, into, transposed = false }: ParameterSlice = {}): Promise<Float32Array> {
    const whole = this.whole.get(name);
    const slices = this.slices.get(name);
    if (transposed && at === undefined)
      throw new RangeError(`all of ${name} is no matrix; read it by slices`);
    if (whole) {
      if (at === undefined) return this.readPlace(whole, into);
      const { tensor, shape } = whole.entry;
      const rows = [at, at + 1] as const;
      if (!transposed) return readFloats(this.source, tensor, { rows, ...(into ? { into } : {}) });
      const [height, width] = shape.slice(1);
      return transposeMatrix(await readFloats(this.source, tensor, { rows }), height, width, into);
    }
    if (!slices) throw new RangeError(`there is no parameter ${name}`);
    if (at !== undefined) {
      const place = slices[at] as Place | undefined;
      if (!place) throw new RangeError(`parameter ${name} has no slice ${at}`);
      return this.readPlace(place, into, transposed);
    }
    const size = elementsOf(partShape(slices[0]));
    const target = into ?? new Float32Array(size * slices.length);
    for (const [index, place] of slices.entries())
      await this.readPlace(place, target.subarray(index * size, (index + 1) * size));
    return target;
  }

  private async readPlace(
    { entry, part }: Place,
    into: Float32Array | undefined,
    transposed = false,
  ): Promise<Float32Array> {
    const { from, rows, transpose = false } = part;
    const direct = into && transpose === transposed ? { into } : {};
    const stored = await this.readRows(entry, from, rows, direct);
    if (transpose === transposed) return stored;
    const [height, width] = partShape({ entry, part });
    return transposeMatrix(stored, height, width, into);
  }

  private async readRows(
    { tensor, shape }: TensorMapping,
    from: number | undefined,
    rows: TensorPart['rows'],
    options: { readonly into?: Float32Array },
  ): Promise<Float32Array> {
    if (from === undefined) return readFloats(this.source, tensor, { ...options, ...(rows ? { rows } : {}) });
    if (!rows) return readFloats(this.source, tensor, { ...options, rows: [from, from + 1] });
    const one = await readFloats(this.source, tensor, { rows: [from, from + 1] });
    const width = elementsOf(shape.slice(2));
    const piece = one.subarray(rows[0] * width, rows[1] * width);
    if (!options.into) return piece;
    options.into.set(piece);
    return options.into;
  }
}

/** Shape of a part as it is stored. */
export function partShape({ entry: { shape }, part: { from, rows } }: Place): readonly number[] {
  const inner = from === undefined ? shape : shape.slice(1);
  return rows ? [rows[1] - rows[0], ...inner.slice(1)] : inner;
}
