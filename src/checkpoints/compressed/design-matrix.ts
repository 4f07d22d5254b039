/**
 * Design matrices: one expert as one matrix with a row per inner neuron. An expert is a sum over its neurons, so the
 * order of the rows carries no meaning (ResMoE, §3.1).
 *
 * Columns: `[W1 | b1 | W2ᵀ]`, gated `[W1 | b1 | W3 | b3 | W2ᵀ]` (`gate` is W1, `up` is W3); without biases their columns
 * are absent. The bias of the output belongs to no neuron: it is never part of the matrix.
 * @module
 */

/** What decides the columns of a design matrix. */
export interface DesignShape {
  readonly hiddenSize: number;
  /** Inner neurons: the rows. */
  readonly intermediateSize: number;
  /** Whether a second projection gates the first. */
  readonly gated: boolean;
  /** Whether inner neurons have biases. */
  readonly bias: boolean;
}

/** Weights of one expert, as `torch.nn.Linear` lays them out. */
export interface ExpertWeights {
  /** `[intermediateSize, hiddenSize]`, inside the activation; gated experts only. */
  readonly gate?: Float32Array;
  /** `[intermediateSize, hiddenSize]` */
  readonly up: Float32Array;
  /** `[hiddenSize, intermediateSize]` */
  readonly down: Float32Array;
  /** `[intermediateSize]`, gated experts with biases only. */
  readonly gateBias?: Float32Array;
  /** `[intermediateSize]` */
  readonly upBias?: Float32Array;
}

/** Columns `start` … `start + width − 1` of a design matrix, and the weight that they hold. */
export interface DesignBlock {
  readonly name: keyof ExpertWeights;
  readonly start: number;
  readonly width: number;
}

/** The blocks of a design matrix from left to right. */
export function designBlocks({ hiddenSize, gated, bias }: DesignShape): DesignBlock[] {
  const names: (keyof ExpertWeights)[] = [
    ...(gated ? (['gate'] as const) : []),
    ...(gated && bias ? (['gateBias'] as const) : []),
    'up',
    ...(bias ? (['upBias'] as const) : []),
    'down',
  ];
  let start = 0;
  return names.map((name) => {
    const width = name.endsWith('Bias') ? 1 : hiddenSize;
    start += width;
    return { name, start: start - width, width };
  });
}

/** Number of columns of a design matrix. */
export function designWidth({ hiddenSize, gated, bias }: DesignShape): number {
  return hiddenSize * (gated ? 3 : 2) + (bias ? (gated ? 2 : 1) : 0);
}

/** Elements of a design matrix: rows times columns. */
export function designSize(shape: DesignShape): number {
  return shape.intermediateSize * designWidth(shape);
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
  const width = designWidth(shape);
  const rows = shape.intermediateSize;
  if (into.length !== rows * width)
    throw new RangeError(`a design matrix has ${rows} × ${width} numbers, not ${into.length}`);
  for (const block of designBlocks(shape)) {
    const from = weights[block.name];
    if (from?.length !== rows * block.width)
      throw new RangeError(
        `weight '${block.name}' of an expert has ${from?.length ?? 'no'} numbers, not ${rows} × ${block.width}`,
      );
    if (block.name === 'down') transposeColumns(from, into, rows, block, width, true);
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
export function weightsOf(design: Float32Array, shape: DesignShape): ExpertWeights {
  const width = designWidth(shape);
  const rows = design.length / width;
  if (!Number.isInteger(rows))
    throw new RangeError(`a design matrix of ${design.length} numbers has no rows of ${width}`);
  const weights: Partial<Record<keyof ExpertWeights, Float32Array>> = {};
  for (const block of designBlocks(shape)) {
    const to = new Float32Array(rows * block.width);
    if (block.name === 'down') transposeColumns(design, to, rows, block, width, false);
    else
      for (let row = 0; row < rows; row++) {
        const start = row * width + block.start;
        to.set(design.subarray(start, start + block.width), row * block.width);
      }
    weights[block.name] = to;
  }
  return weights as unknown as ExpertWeights;
}

/** Side of the square in which a transpose runs, so that both its sides stay in cache. */
const TILE = 64;

/** Copies `down` `[width of the block, rows]` into the columns of a block, or those columns back. */
function transposeColumns(
  from: Float32Array,
  to: Float32Array,
  rows: number,
  block: DesignBlock,
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
