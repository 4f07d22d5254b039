/**
 * One expert of 4 or 8 bits as a small program that has its weights as constants.
 * @module
 */
import {
  constant,
  input,
  quantisedMatmul,
  type QuantisedMatrix,
  type QuantisedPrecision,
  type Tensor,
} from '../../graph/index.js';
import type { ExpertBank, ExpertWeights } from '../../moe/index.js';
import { compile, type Program, type RuntimeOptions } from '../../runtime/index.js';
import type { ExpertRun } from '../store/expert-store.js';

/** The weights of one expert, by the names of its bank's parameters. */
export interface QuantisedWeights {
  readonly matrices: Readonly<Record<string, QuantisedMatrix>>;
  readonly biases: Readonly<Record<string, Float32Array>>;
}

/** An expert whose weights are in a program of its own. */
export interface QuantisedExpert {
  readonly run: ExpertRun;
  release(): Promise<void>;
}

/**
 * Opens the program of one expert. It lives as long as the expert is in memory: `MatMulNBits` rearranges its weights when a
 * session is opened and wants them constant (fed as inputs they take 25 times as long, measured with onnxruntime-node 1.30).
 *
 * @param bank an ordinary bank, which treats tokens alike: its formula is traced with tokens as rows here, which is how the
 *   operator has them.
 * @param width of what the expert reads.
 * @param precision what its inputs are rounded to.
 */
export async function openQuantisedExpert(
  bank: ExpertBank,
  { matrices, biases }: QuantisedWeights,
  width: number,
  runtime: RuntimeOptions = {},
  precision: QuantisedPrecision = 'int8',
): Promise<QuantisedExpert> {
  const project = (name: string, rows: Tensor): Tensor => quantisedMatmul(rows, matrices[name], precision);
  const weights: ExpertWeights = {
    project,
    projectBack: (name) => {
      throw new Error(`'${name}' is read both ways, which a matrix in blocks cannot be`);
    },
    bias: (name) => constant('float32', [1, biases[name].length], biases[name]),
  };
  const output = bank.columns!(input('rows', 'float32', ['tokens', width]), weights);
  const program = await compile({ output }, { ...runtime, small: true });
  const outputWidth = output.shape[1] as number;
  return {
    run: async (columns, into, tokens) => {
      if (tokens === 1) return runRows(program, columns, into);
      const rows = transposed(columns, width, tokens);
      const outputs = new Float32Array(into.length);
      await runRows(program, rows, outputs);
      into.set(transposed(outputs, tokens, outputWidth));
    },
    release: () => program.release(),
  };
}

async function runRows(program: Program, rows: Float32Array, into: Float32Array): Promise<void> {
  await program.bindOutput('output', into).run({ rows });
}

/** `[rows, columns]` → `[columns, rows]` */
function transposed(matrix: Float32Array, rows: number, columns: number): Float32Array {
  const result = new Float32Array(matrix.length);
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++)
      result[column * rows + row] = matrix[row * columns + column];
  return result;
}
