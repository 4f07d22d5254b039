/**
 * Rounds the other matrices of a model, those that every token multiplies with.
 * @module
 */
import { inputName, quantisedMatmul, rewrite, type QuantisedMatrix, type Tensor } from '../../graph/index.js';
import { quantise } from './blocks.js';
import type { RoundingOptions } from './rounded-experts.js';

/** Matrices with a side below this stay as they are: they cost nothing. */
const LEAST_SIDE = 128;

/** Routers decide by small differences, so their weights are never rounded. */
const router = /\.router\./;

/**
 * Products `x Wᵀ` with weights rounded to blocks. A rounded weight is a constant of every program that multiplies with it,
 * so each of a model's passes (one for reading prompts of some length, one for single tokens) has its own copy of it.
 */
export class RoundedProducts {
  private readonly rounded = new Map<string, QuantisedMatrix>();

  /** @param weights `[out, in]` by name, among others. */
  constructor(
    private readonly weights: ReadonlyMap<string, Float32Array>,
    private readonly options: RoundingOptions,
  ) {}

  /** Replaces the products of a graph. What else is done with a weight, such as looking up its rows, stays as it is. */
  replace<Names extends string>(outputs: Readonly<Record<Names, Tensor>>): Record<Names, Tensor> {
    return rewrite(outputs, ({ operator, attributes }, [x, weight]) => {
      if (operator.name !== 'matmul' || weight.rank !== 2) return undefined;
      const { transposeA, transposeB, scale } = attributes;
      const name = inputName(weight);
      if (name === undefined || transposeA || !transposeB || scale !== 1) return undefined;
      const matrix = this.matrixOf(name, weight.shape as [number, number]);
      return matrix && [quantisedMatmul(x, matrix)];
    });
  }

  private matrixOf(name: string, [outSize, inSize]: readonly [number, number]): QuantisedMatrix | undefined {
    const values = this.weights.get(name);
    if (!values || Math.min(outSize, inSize) < LEAST_SIDE || router.test(name)) return undefined;
    const known = this.rounded.get(name);
    if (known) return known;
    const matrix = quantise(values, { ...this.options, outSize, inSize, layout: 'outIn' });
    this.rounded.set(name, matrix);
    return matrix;
  }
}
