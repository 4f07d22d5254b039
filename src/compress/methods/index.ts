/**
 * The compression methods by the `kind` under which commands and recipes name them. A new method is one file and one
 * line here.
 * @module
 */
import { createKind, kindUnion } from '../../moe/index.js';
import type { z } from 'zod';
import type { CompressionMethod } from '../method.js';
import { resmoe } from './resmoe.js';

/** All compression methods. */
export const methodKinds = [resmoe] as const;

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
  return createKind(methodKinds, options, undefined);
}
