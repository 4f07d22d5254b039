/**
 * Reads a compressed layer from a checkpoint that nobody vouches for.
 * @module
 */
import {
  decodeFloats,
  quote,
  storedDTypes,
  type StoredArray,
  type StoredDType,
} from '../safetensors/index.js';
import { elementsOf } from '../safetensors/dtypes.js';
import type { TensorSource } from '../tensors/source.js';
import { CompressedFormatError } from './errors.js';
import { shapeOf, type LayerHeader } from './header.js';
import { designWidth, type ColumnBlock, type CompressedLayer, type CompressedMatrix } from './layer.js';
import { centreName, matrixName, outputBiasName } from './names.js';
import { restoreDesign } from './restore.js';
import { bitmapBytes, checkIndex, type SparseIndex } from './sparse-index.js';

/** How much larger than all that a layer stores one of its experts may be. */
const MAX_GROWTH = 4096;

/**
 * One compressed layer. Making it checks that every tensor is there with the type and size that the header promises, by
 * the safetensors header alone; the indices are checked when they are read.
 */
export class LayerReader {
  readonly blocks: readonly ColumnBlock[];
  /** The tensors that the layer is stored in. */
  readonly tensors: ReadonlySet<string>;
  /** Bytes of these tensors. */
  readonly bytes: number;
  private readonly width: number;

  /** @throws CompressedFormatError naming the tensor. */
  constructor(
    readonly header: LayerHeader,
    private readonly source: TensorSource,
  ) {
    this.blocks = shapeOf(header).blocks;
    this.width = designWidth(this.blocks);
    const found = new LayerTensors(header, source, this.matrixColumns.bind(this));
    this.tensors = found.names;
    this.bytes = found.bytes;
    const expert = header.intermediateSize * this.width * 4;
    if (expert > MAX_GROWTH * this.bytes)
      throw new CompressedFormatError(
        source.location,
        `layer ${header.name} stores ${this.bytes} bytes and promises experts of ${expert} bytes each`,
      );
  }

  /** Ranks of all matrices that are stored as factors, in order. */
  get ranks(): readonly number[] {
    return [...this.tensors].flatMap((name) =>
      name.endsWith('.left') ? [this.source.tensors.get(name)!.shape[1]] : [],
    );
  }

  /** The centre, `[intermediateSize, width]`, where there is one. */
  async readCentre(): Promise<Float32Array | undefined> {
    return this.header.centre ? this.floats(centreName(this.header.name)) : undefined;
  }

  /** The matrices of a stored expert. */
  async readMatrices(stored: number): Promise<readonly CompressedMatrix[]> {
    const { matrices } = this.header.experts[stored];
    return Promise.all(matrices.map((kind, matrix) => this.readMatrix(stored, matrix, kind)));
  }

  /** Biases of an original expert's output, `[hiddenSize]`; zeros if it was dropped. */
  async readOutputBiases(expert: number): Promise<Float32Array> {
    const { name, expertOf, hiddenSize } = this.header;
    const stored = expertOf[expert];
    return stored < 0 ? new Float32Array(hiddenSize) : this.floats(outputBiasName(name, stored));
  }

  /**
   * Rebuilds an original expert's design matrix, `[intermediateSize, width]`, as `restoreExpert` does.
   * @param centre the layer's, if it is at hand; it is read otherwise.
   */
  async restore(expert: number, centre?: Float32Array): Promise<Float32Array> {
    const { expertOf, intermediateSize } = this.header;
    const stored = expertOf[expert];
    if (stored < 0) return new Float32Array(intermediateSize * this.width);
    const base = centre ?? (await this.readCentre());
    return restoreDesign({ intermediateSize, blocks: this.blocks }, await this.readMatrices(stored), base);
  }

  /** The whole layer in memory. */
  async load(): Promise<CompressedLayer> {
    const { name, hiddenSize, intermediateSize, experts, expertOf, outputBiases } = this.header;
    const centre = await this.readCentre();
    const matrices = [];
    for (const stored of experts.keys()) matrices.push({ matrices: await this.readMatrices(stored) });
    const biases = outputBiases
      ? await Promise.all(experts.map((_, stored) => this.floats(outputBiasName(name, stored))))
      : undefined;
    return {
      name,
      hiddenSize,
      intermediateSize,
      blocks: this.blocks,
      ...(centre ? { centre } : {}),
      experts: matrices,
      expertOf,
      ...(biases ? { outputBiases: biases } : {}),
    };
  }

  private matrixColumns(stored: number, matrix: number): number {
    return this.header.experts[stored].matrices.length === 1 ? this.width : this.blocks[matrix].width;
  }

  private async readMatrix(
    stored: number,
    matrix: number,
    kind: CompressedMatrix['kind'],
  ): Promise<CompressedMatrix> {
    const nameOf = (part: string): string => matrixName(this.header.name, stored, matrix, part);
    const { rows } = this.header.experts[stored];
    const columns = this.matrixColumns(stored, matrix);
    if (kind === 'lowRank') {
      const rank = this.source.tensors.get(nameOf('left'))!.shape[1];
      const [left, right] = await Promise.all([this.floats(nameOf('left')), this.floats(nameOf('right'))]);
      return { kind, rows, columns, rank, left, right };
    }
    const values = await this.floats(nameOf('values'));
    if (kind === 'dense') return { kind, rows, columns, values };
    const index = await this.readIndex(nameOf);
    const wrong = checkIndex(index, rows, columns, values.length);
    if (wrong !== undefined) {
      const tensor = nameOf(index.kind === 'bitmap' ? 'bitmap' : wrong.tensor);
      throw new CompressedFormatError(this.source.location, `tensor ${quote(tensor)} ${wrong.reason}`);
    }
    return { kind, rows, columns, index, values };
  }

  private async readIndex(nameOf: (part: string) => string): Promise<SparseIndex> {
    if (this.source.tensors.has(nameOf('bitmap')))
      return { kind: 'bitmap', bits: (await this.source.read(nameOf('bitmap'))) as Uint8Array };
    return {
      kind: 'csr',
      rowStarts: (await this.source.read(nameOf('row_starts'))) as Uint32Array,
      columns: (await this.source.read(nameOf('columns'))) as Uint16Array | Uint32Array,
    };
  }

  /** What is float32 already is not copied: a source in memory hands out what it holds. */
  private async floats(tensor: string): Promise<Float32Array> {
    const data: StoredArray = await this.source.read(tensor);
    return this.header.dtype === 'F32' ? (data as Float32Array) : decodeFloats(this.header.dtype, data);
  }
}

/** Finds and checks the tensors of a layer. */
class LayerTensors {
  readonly names = new Set<string>();
  bytes = 0;

  constructor(
    { name, dtype, centre, outputBiases, hiddenSize, experts, intermediateSize, roles }: LayerHeader,
    private readonly source: TensorSource,
    columnsOf: (stored: number, matrix: number) => number,
  ) {
    const width = roles.reduce((total, role) => total + (role.endsWith('Bias') ? 1 : hiddenSize), 0);
    if (centre) this.take(centreName(name), [dtype], [intermediateSize, width]);
    for (const [stored, { rows, matrices }] of experts.entries()) {
      if (outputBiases) this.take(outputBiasName(name, stored), [dtype], [hiddenSize]);
      for (const [matrix, kind] of matrices.entries()) {
        const columns = columnsOf(stored, matrix);
        const nameOf = (part: string): string => matrixName(name, stored, matrix, part);
        if (kind === 'dense') this.take(nameOf('values'), [dtype], [rows, columns]);
        else if (kind === 'lowRank') {
          const [, rank] = this.take(nameOf('left'), [dtype], [rows, undefined]);
          this.take(nameOf('right'), [dtype], [rank, columns]);
        } else {
          const [count] = this.take(nameOf('values'), [dtype], [undefined]);
          if (source.tensors.has(nameOf('bitmap')))
            this.take(nameOf('bitmap'), ['U8'], [bitmapBytes(rows, columns)]);
          else {
            this.take(nameOf('row_starts'), ['U32'], [rows + 1]);
            this.take(nameOf('columns'), [columns <= 1 << 16 ? 'U16' : 'U32'], [count]);
          }
        }
      }
    }
  }

  /** The shape of a tensor, which must be as given where that is known. */
  private take(
    name: string,
    [dtype]: readonly [StoredDType],
    shape: readonly (number | undefined)[],
  ): readonly number[] {
    const found = this.source.tensors.get(name);
    const expected = `${dtype} [${shape.map((size) => size ?? 'any').join(', ')}]`;
    const fail = (reason: string): never => {
      throw new CompressedFormatError(this.source.location, `tensor ${quote(name)} ${reason}`);
    };
    if (!found) return fail(`is missing; config.json promises ${expected}`);
    const fits =
      found.dtype === dtype &&
      found.shape.length === shape.length &&
      shape.every((size, axis) => size === undefined || size === found.shape[axis]);
    if (!fits)
      return fail(`is ${found.dtype} [${found.shape.join(', ')}], but config.json promises ${expected}`);
    this.names.add(name);
    const elements = elementsOf(found.shape);
    this.bytes += (elements * storedDTypes[dtype].bits) / 8;
    return found.shape;
  }
}
