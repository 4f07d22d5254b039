/**
 * The compression methods by the `kind` under which commands and recipes name them. A new method is one file and one
 * line here.
 * @module
 */
import { createKind, kindUnion } from '../../moe/index.js';
import type { z } from 'zod';
import type { CompressionMethod } from '../method.js';
import { direct } from './direct.js';
import { FiniteWeights } from './finite-weights.js';
import { expertDropping } from './expert-dropping.js';
import { average } from './merging/average.js';
import { gitRebasinMerge } from './merging/git-rebasin.js';
import { mSmoe } from './merging/m-smoe.js';
import { meo } from './merging/meo.js';
import { mlpFusion } from './mlp-fusion.js';
import { resmoe } from './resmoe.js';
import { structuredPruning } from './structured-pruning.js';
import { wanda } from './wanda.js';

/** All compression methods. */
export const methodKinds = [
  resmoe,
  direct,
  structuredPruning,
  wanda,
  expertDropping,
  average,
  gitRebasinMerge,
  mSmoe,
  meo,
  mlpFusion,
] as const;

/** Options of compression methods by `kind`. */
export const methodSchema = kindUnion(methodKinds);

/** Settings of one method, complete. */
export type MethodOptions = z.output<typeof methodSchema>;

/**
 * Makes a method from its settings.
 * @example
 * const method = createMethod(methodSchema.parse({ kind: 'resmoe', residual: 'up' }));
 * const { layer, report } = await method.compress(experts, { budget: { perExpert: 0.25 } });
 */
export function createMethod(options: MethodOptions): CompressionMethod {
  return new FiniteWeights(createKind(methodKinds, options, undefined));
}
