/**
 * From the weights of an expert to its design matrix and back, exactly. What a row holds is told in `layer.ts`.
 * @module
 */
import { designWidth, type ColumnBlock, type CompressedLayer, type DesignRole } from './layer.js';

/**
 * Weights of one expert as `torch.nn.Linear` lays them out: `gate` and `up` `[intermediateSize, hiddenSize]`, `down`
 * `[hiddenSize, intermediateSize]`, biases `[intermediateSize]`. The bias of the output belongs to no neuron and is not here.
 */
export type ExpertWeights = Readonly<Partial<Record<DesignRole, Float32Array>>>;

/** Size and columns of a layer's design matrices. */
export type DesignShape = Pick<CompressedLayer, 'intermediateSize' | 'hiddenSize' | 'blocks'>;

/** Elements of a design matrix: rows times columns. */
export function designSize({ intermediateSize, blocks }: DesignShape): number {
  return intermediateSize * designWidth(blocks);
}

/**
 * The design matrix of an expert, `[intermediateSize, width]` row by row.
 * @param into where to write it; a new array when absent.
 * @throws RangeError naming the weight that is absent or has another size than `shape` says.
 */
export function designOf(
  weights: ExpertWeights,
  shape: DesignShape,
  into = new Float32Array(designSize(shape)),
): Float32Array {
  const width = designWidth(shape.blocks);
  const rows = shape.intermediateSize;
  if (into.length !== rows * width)
    throw new RangeError(`a design matrix has ${rows} × ${width} numbers, not ${into.length}`);
  for (const block of placed(shape.blocks)) {
    const from = weights[block.role];
    if (from?.length !== rows * block.width)
      throw new RangeError(
        `weight '${block.role}' of an expert has ${from?.length ?? 'no'} numbers, not ${rows} × ${block.width}`,
      );
    if (block.role === 'down') transposeColumns(from, into, rows, block, width, true);
    else
      for (let row = 0; row < rows; row++)
        into.set(from.subarray(row * block.width, (row + 1) * block.width), row * width + block.start);
  }
  return into;
}

/**
 * The weights in a design matrix: the exact inverse of {@link designOf}, for any number of rows.
 * @throws RangeError if the matrix is not made of whole rows.
 */
export function weightsOf(design: Float32Array, blocks: readonly ColumnBlock[]): ExpertWeights {
  const width = designWidth(blocks);
  const rows = design.length / width;
  if (!Number.isInteger(rows))
    throw new RangeError(`a design matrix of ${design.length} numbers has no rows of ${width}`);
  const weights: Partial<Record<DesignRole, Float32Array>> = {};
  for (const block of placed(blocks)) {
    const to = new Float32Array(rows * block.width);
    if (block.role === 'down') transposeColumns(design, to, rows, block, width, false);
    else
      for (let row = 0; row < rows; row++) {
        const start = row * width + block.start;
        to.set(design.subarray(start, start + block.width), row * block.width);
      }
    weights[block.role] = to;
  }
  return weights;
}

/** Blocks with their first columns. */
function placed(blocks: readonly ColumnBlock[]): (ColumnBlock & { readonly start: number })[] {
  let start = 0;
  return blocks.map((block) => {
    start += block.width;
    return { ...block, start: start - block.width };
  });
}

/** Side of the square in which a transpose runs, so that both its sides stay in cache. */
const TILE = 64;

/** Copies `down` `[width of the block, rows]` into the columns of a block, or those columns back. */
function transposeColumns(
  from: Float32Array,
  to: Float32Array,
  rows: number,
  block: { readonly start: number; readonly width: number },
  width: number,
  intoDesign: boolean,
): void {
  for (let top = 0; top < rows; top += TILE) {
    for (let left = 0; left < block.width; left += TILE) {
      const bottom = Math.min(rows, top + TILE);
      const right = Math.min(block.width, left + TILE);
      for (let row = top; row < bottom; row++) {
        const start = row * width + block.start;
        if (intoDesign) for (let j = left; j < right; j++) to[start + j] = from[j * rows + row];
        else for (let j = left; j < right; j++) to[j * rows + row] = from[start + j];
      }
    }
  }
}
