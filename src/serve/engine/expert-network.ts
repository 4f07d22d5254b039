/**
 * One expert as a graph whose weights are fed.
 * @module
 */
import { input, matmul, reshape, type Dim, type Tensor } from '../../graph/index.js';
import type { ExpertBank, ExpertWeights } from '../../moe/index.js';
import { liesTransposed } from '../store/expert-banks.js';
import type { ExpertLayerInfo } from '../store/expert-store.js';

/**
 * One expert over tokens as columns.
 * @param columns `[width, tokens]`
 * @param feed name of the feed of a weight
 * @returns `[outputWidth, tokens]`
 */
export function expertColumns(
  bank: ExpertBank,
  info: ExpertLayerInfo,
  columns: Tensor,
  feed: (parameter: string) => string = (parameter) => parameter,
): Tensor {
  const leaves = new Map(
    Object.entries(info.parameters).map(([name, shape]) => [name, input(feed(name), 'float32', shape)]),
  );
  const weight = (name: string): Tensor => {
    const leaf = leaves.get(name);
    if (!leaf) throw new Error(`${info.name}: the store has no '${name}'`);
    return leaf;
  };
  const weights: ExpertWeights = {
    project: (name, x) => matmul(weight(name), x, { transposeA: !liesTransposed(info, name) }),
    projectBack: (name, x) => matmul(weight(name), x, { transposeA: liesTransposed(info, name) }),
    bias: (name) => reshape(weight(name), [-1, 1]),
  };
  return bank.columns!(columns, weights);
}

/** Widths of what an expert reads and makes. */
export interface ExpertWidths {
  readonly width: number;
  readonly outputWidth: number;
}

/** Widths of a bank's experts; the bank's parameters must have their names. */
export function expertWidths(bank: ExpertBank, info: ExpertLayerInfo, hiddenSize: number): ExpertWidths {
  const hidden = input('hidden', 'float32', [1, hiddenSize]);
  const width = (bank.prepare?.(hidden) ?? hidden).shape[1] as number;
  const output = expertColumns(bank, info, columnsInput(width, 1));
  return { width, outputWidth: output.shape[0] as number };
}

/** The fed columns of a program. */
export function columnsInput(width: number, tokens: Dim): Tensor {
  return input('columns', 'float32', [width, tokens]);
}
