/**
 * What a token costs, from shapes alone.
 * @module
 */
import type { Module } from '../nn/index.js';
import type { TokenCost } from './feed-forward.js';

/** Cost of a module that every token passes whole. State without a gradient counts, but multiplies nothing. */
export function moduleCost(module: Module): TokenCost {
  const all = [...module.parameters().values()];
  const total = (list: typeof all): number => list.reduce((sum, { size }) => sum + size, 0);
  const matrices = all.filter(({ shape, trainable }) => trainable && shape.length >= 2);
  return { parameters: total(all), flops: 2 * total(matrices) };
}

/** Sum of costs, each `times` over. */
export function addCosts(...parts: readonly (readonly [cost: TokenCost, times: number])[]): TokenCost {
  return {
    parameters: parts.reduce((sum, [{ parameters }, times]) => sum + parameters * times, 0),
    flops: parts.reduce((sum, [{ flops }, times]) => sum + flops * times, 0),
  };
}
