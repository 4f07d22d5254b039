/**
 * Top-K activations and product-key memories in plain loops, to be read beside arXiv 2310.10837 §3.1–3.2. Nothing here
 * is shared with the graph.
 */
import { dot, matrix, type Matrix, type ReferenceInputs } from './reference-moe.js';

/** `x Wᵀ + b` with a Linear's parameters. */
function linear(x: readonly number[], name: string, parameters: ReferenceInputs['parameters']): number[] {
  const weight = matrix(parameters.get(`${name}.weight`)!, x.length);
  return weight.map((row, i) => dot(row, x) + (parameters.get(`${name}.bias`)?.[i] ?? 0));
}

/** Every token keeps its `topK` largest ReLUs and all that equal the last of them. */
export function referenceTopKActivation(
  { topK, byValueNorm = false }: { topK: number; byValueNorm?: boolean },
  { hidden, parameters }: ReferenceInputs,
): Matrix {
  return hidden.map((x) => {
    const inner = linear(x, 'network.up', parameters).map((value) => Math.max(value, 0));
    const values = matrix(parameters.get('network.down.weight')!, inner.length);
    const worth = inner.map(
      (value, i) => value * (byValueNorm ? Math.hypot(...values.map((row) => row[i])) : 1),
    );
    const threshold = [...worth].sort((a, b) => b - a)[topK - 1];
    const kept = inner.map((value, i) => (worth[i] >= threshold ? value : 0));
    return linear(kept, 'network.down', parameters);
  });
}

/** What a memory is. */
export interface ReferenceMemory {
  readonly heads: number;
  readonly subKeys: number;
  readonly topK: number;
  readonly activation: 'relu' | 'softmax';
  readonly softmaxOver?: 'heads' | 'head';
  readonly dense?: boolean;
  readonly querySize?: number;
}

function activate(scores: readonly number[], activation: 'relu' | 'softmax'): number[] {
  if (activation === 'relu') return scores.map((value) => Math.max(value, 0));
  const peak = Math.max(...scores);
  const total = scores.reduce((sum, value) => sum + Math.exp(value - peak), 0);
  return scores.map((value) => Math.exp(value - peak) / total);
}

/** Scores all n² values of every head, and sorts them all. */
export function referenceProductKey(
  options: ReferenceMemory,
  { hidden, parameters }: ReferenceInputs,
): { output: number[][]; places: number[][][] } {
  const { heads, subKeys, topK, activation, softmaxOver = 'heads', dense = false, querySize } = options;
  const half = (querySize ?? hidden[0].length) / 2;
  const first = matrix(parameters.get('firstKeys')!, half);
  const second = matrix(parameters.get('secondKeys')!, half);
  const values = matrix(parameters.get('values')!, hidden[0].length);
  const places: number[][][] = [];
  const output = hidden.map((x) => {
    const queries = querySize === undefined ? undefined : linear(x, 'query', parameters);
    const scores = Array.from({ length: heads }, (_, head) => {
      const query = queries?.slice(head * querySize!, (head + 1) * querySize!) ?? x;
      return values.map(
        (_value, i) =>
          dot(first[head * subKeys + Math.floor(i / subKeys)], query.slice(0, half)) +
          dot(second[head * subKeys + (i % subKeys)], query.slice(half)),
      );
    });
    const y = x.map(() => 0);
    const read = (weights: readonly number[], from: readonly number[]): void =>
      from.forEach((place, k) => values[place].forEach((value, d) => (y[d] += weights[k] * value)));
    if (dense) {
      const summed = values.map((_, i) => scores.reduce((sum, row) => sum + row[i], 0));
      read(
        activate(summed, activation),
        values.map((_, i) => i),
      );
      return y;
    }
    const best = scores.map((row) =>
      row
        .map((_, i) => i)
        .sort((a, b) => row[b] - row[a] || a - b)
        .slice(0, topK),
    );
    places.push(best);
    const chosen = best.map((list, head) => list.map((i) => scores[head][i]));
    if (softmaxOver === 'head') chosen.forEach((row, head) => read(activate(row, activation), best[head]));
    else read(activate(chosen.flat(), activation), best.flat());
    return y;
  });
  return { output, places };
}
