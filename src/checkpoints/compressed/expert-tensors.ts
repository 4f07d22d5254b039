/**
 * How the experts of one layer lie in the tensors of a checkpoint, and the way from there to design matrices and back.
 *
 * Checkpoints either have a tensor per expert, or one whose first axis counts the experts; matrices may stand either
 * way; and gate and up projection may share a tensor.
 * @module
 */
import { z } from 'zod';
import { designRoles, designWidth, type ColumnBlock } from './layer.js';

/** What stands for an expert's number in the name of an {@link ExpertTensor}. */
export const EXPERT = '{expert}';

const size = z
  .int()
  .min(1)
  .max(2 ** 24);

const partSchema = z.strictObject({
  /** Columns of the design matrix, or the biases of the expert's output, which belong to no neuron. */
  role: z.enum([...designRoles, 'outputBias']),
  /** First and past-the-last row of the expert's matrix that this part takes; all when absent. */
  rows: z.tuple([z.int().min(0), size]).optional(),
  /** Whether a neuron is a row or a column of the part. A bias has a row for each neuron. */
  neurons: z.enum(['rows', 'columns']),
});

/** Schema of {@link ExpertTensor}. */
export const expertTensorSchema = z.strictObject({
  /** With `{expert}` where each expert has a tensor of its own; without, the first axis counts the experts. */
  name: z.string().min(1).max(1000),
  /** Of the tensor as it lies in the checkpoint. */
  shape: z.array(size).min(1).max(3),
  parts: z
    .array(partSchema)
    .min(1)
    .max(designRoles.length + 1),
});

/** One tensor, or one for each expert, that holds parts of the experts of a layer. */
export type ExpertTensor = z.infer<typeof expertTensorSchema>;

type Part = ExpertTensor['parts'][number];

/** Sizes of an expert. */
export interface ExpertShape {
  readonly numExperts: number;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly blocks: readonly ColumnBlock[];
}

/** The two sizes of what one expert has in a tensor; a bias is a column. */
export function sliceOf({ name, shape }: Pick<ExpertTensor, 'name' | 'shape'>): readonly [number, number] {
  const [rows = 1, columns = 1] = name.includes(EXPERT) ? shape : shape.slice(1);
  return [rows, columns];
}

/**
 * Whether tensors hold every part of every expert exactly once.
 * @returns what is wrong, in words; undefined if nothing is.
 */
export function checkExpertTensors(
  tensors: readonly ExpertTensor[],
  shape: ExpertShape,
  outputBiases: boolean,
): string | undefined {
  const wanted = new Map<string, number>(shape.blocks.map(({ role, width }) => [role, width]));
  if (outputBiases) wanted.set('outputBias', 1);
  const seen = new Set<string>();
  for (const tensor of tensors) {
    const { name, parts } = tensor;
    const rank = tensor.shape.length;
    if (name.includes(EXPERT) ? rank > 2 : rank < 2 || tensor.shape[0] !== shape.numExperts)
      return `tensor ${name} [${tensor.shape.join(', ')}] does not hold ${shape.numExperts} experts`;
    const [rows, columns] = sliceOf(tensor);
    let covered = 0;
    for (const part of parts) {
      const width = wanted.get(part.role);
      if (width === undefined || seen.has(part.role))
        return `tensor ${name}: ${part.role} is ${width === undefined ? 'no part of these experts' : 'there twice'}`;
      seen.add(part.role);
      const [begin, end] = part.rows ?? [0, rows];
      const length = part.role === 'outputBias' ? shape.hiddenSize : shape.intermediateSize;
      const expected = part.neurons === 'rows' ? [length, width] : [width, length];
      if (begin !== covered || end - begin !== expected[0] || columns !== expected[1])
        return `tensor ${name}: ${part.role} should be [${expected.join(', ')}], but is [${end - begin}, ${columns}] from row ${begin}`;
      covered = end;
    }
    if (covered !== rows) return `tensor ${name}: its parts take ${covered} of ${rows} rows`;
  }
  const missing = [...wanted.keys()].find((role) => !seen.has(role));
  return missing === undefined ? undefined : `no tensor holds ${missing}`;
}

/** Copies what a tensor's slice of one expert holds into the expert's design matrix and output biases. */
export function gatherDesign(
  tensor: ExpertTensor,
  slice: Float32Array,
  blocks: readonly ColumnBlock[],
  design: Float32Array,
  outputBiases?: Float32Array,
): void {
  for (const part of tensor.parts) {
    if (part.role === 'outputBias') outputBiases?.set(slice.subarray(...(part.rows ?? [0, slice.length])));
    else exchange(part, tensor, slice, blocks, design, true);
  }
}

/** The way back: fills a tensor's slice of one expert. */
export function scatterDesign(
  tensor: ExpertTensor,
  slice: Float32Array,
  blocks: readonly ColumnBlock[],
  design: Float32Array,
  outputBiases?: Float32Array,
): void {
  for (const part of tensor.parts) {
    if (part.role === 'outputBias') slice.set(outputBiases!, part.rows?.[0] ?? 0);
    else exchange(part, tensor, slice, blocks, design, false);
  }
}

/** Neurons and columns of a tile, small enough that both sides of a transposition stay in the cache. */
const TILE = 32;

function exchange(
  { role, rows, neurons }: Part,
  tensor: ExpertTensor,
  slice: Float32Array,
  blocks: readonly ColumnBlock[],
  design: Float32Array,
  gather: boolean,
): void {
  const at = blocks.findIndex((block) => block.role === role);
  const begin = designWidth(blocks.slice(0, at));
  const { width } = blocks[at];
  const stride = designWidth(blocks);
  const [, columns] = sliceOf(tensor);
  const first = (rows?.[0] ?? 0) * columns;
  const count = design.length / stride;
  const [alongNeuron, alongColumn] = neurons === 'rows' ? [columns, 1] : [1, columns];
  for (let top = 0; top < count; top += TILE) {
    for (let left = 0; left < width; left += TILE) {
      const right = Math.min(width, left + TILE);
      for (let neuron = top; neuron < Math.min(count, top + TILE); neuron++) {
        const source = first + neuron * alongNeuron;
        const target = neuron * stride + begin;
        for (let column = left; column < right; column++) {
          if (gather) design[target + column] = slice[source + column * alongColumn];
          else slice[source + column * alongColumn] = design[target + column];
        }
      }
    }
  }
}
